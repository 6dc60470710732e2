"""The shipped node, which dies right before or after it gives a file its name, when a test has ordered that.

An order lies beside the data directory, as `die-a` or `die-b`: "before" or "after", and how the file's name ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from ftwallet import platform
from ftwallet.__main__ import main

MODULE = "tests.faults.dying_node"


def order_file(data_dir: Path, node: str) -> Path:
    return data_dir.parent / f"die-{node}"


def order(data_dir: Path, node: str, when: str, suffix: str) -> None:
    """Have this node die at its next rename of such a file."""
    draft = order_file(data_dir, node).with_suffix(".draft")
    draft.write_text(f"{when} {suffix}")
    draft.replace(order_file(data_dir, node))


def _argument(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def _obey(orders: Path) -> None:
    rename = platform.rename

    def renamed(source: Path, target: Path) -> None:
        when, suffix = orders.read_text().split() if orders.exists() else ("", "")
        strikes = bool(when) and target.name.endswith(suffix)
        if strikes:
            orders.unlink()  # the next process must live
        if strikes and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if strikes:
            os.kill(os.getpid(), signal.SIGKILL)

    platform.rename = renamed


if __name__ == "__main__":
    _obey(order_file(Path(_argument("--data-dir")), _argument("--node")))
    main()
