"""A supervisor that ends with whoever started it: the bench's own cluster, which outlives no bench.

`python -m ftwallet.lab.supervised CONFIG PID` is `ftwallet-run up` with the settings in CONFIG, as a child of PID.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ftwallet import platform
from ftwallet.config import load
from ftwallet.supervisor.run import run


def main() -> None:
    """Supervise until SIGTERM."""
    config_file, parent_pid = Path(sys.argv[1]), int(sys.argv[2])
    platform.die_with_parent(parent_pid)
    raise SystemExit(run(load(config_file), lambda: None, lambda supervisor: None))


if __name__ == "__main__":
    main()
