"""`python supervisor.py` from a checkout: the same as `ftwallet-run`, and `ftwallet-run up` without arguments.

Not part of the wheel: an installed top-level module of this name would collide with the supervisor package.
"""

from __future__ import annotations

import sys

from ftwallet.cli import main

if __name__ == "__main__":
    main(sys.argv[1:] or ["up"])
