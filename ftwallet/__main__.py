"""`python -m ftwallet`: the same as `ftwallet-run`."""

from __future__ import annotations

from ftwallet.cli import main

if __name__ == "__main__":
    main()
