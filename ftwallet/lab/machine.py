"""What a figure depends on besides the program: the machine, and which program it was."""

from __future__ import annotations

import os
import platform as host
import subprocess
from pathlib import Path
from typing import Any

import psutil

from ftwallet import __version__

_PACKAGE = Path(__file__).resolve().parents[1]
_IN_MEMORY = ("tmpfs", "ramfs")


def facts(directory: Path, wrk: str) -> dict[str, Any]:
    """Return them as they stand in every report; `directory` is on the file system that is measured."""
    return {
        "cores": len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count(),
        "kernel": f"{host.system()} {host.release()}",
        "python": host.python_version(),
        "filesystem": filesystem(directory),
        "wrk": _first_line([wrk, "-v"]).partition(" [")[0].removeprefix("wrk ") or None,
        "version": __version__,
        "commit": commit(),
    }


def sentence(machine: dict[str, Any]) -> str:
    """Say the facts in one line."""
    commit_id = f", commit {machine['commit']}" if machine["commit"] else ""
    wrk = f", wrk {machine['wrk']}" if machine["wrk"] else ""
    return (
        f"{machine['cores']} cores, {machine['kernel']}, Python {machine['python']}, {machine['filesystem']}"
        f"{wrk}; FT-Wallet {machine['version']}{commit_id}"
    )


def warnings(machine: dict[str, Any]) -> list[str]:
    """Return what makes figures of this file system worthless, if anything does."""
    if machine["filesystem"] in _IN_MEMORY:
        return [f"The directory is on {machine['filesystem']}, which is in memory: an fdatasync costs nothing there"]
    return []


def filesystem(directory: Path) -> str:
    """Return the type of the file system that holds a directory, such as "ext4"; "unknown" where nobody says."""
    path = directory.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    # The longest mount point holds it; of several on one point, the last covers those before.
    best = max(enumerate(mounts), key=lambda item: (len(item[1].mountpoint), item[0]), default=None)
    return best[1].fstype if best else "unknown"


def commit() -> str | None:
    """Return the commit of the checkout that this runs from, with "+" when files differ; None when installed."""
    git = ["git", "-C", str(_PACKAGE)]
    if not _first_line([*git, "ls-files", "--error-unmatch", "__init__.py"]):
        return None
    changed = _first_line([*git, "status", "--porcelain", "--untracked-files=no", "--", "."])
    return _first_line([*git, "rev-parse", "--short=12", "HEAD"]) + ("+" if changed else "")


def _first_line(command: list[str]) -> str:
    """Return the first line that a program prints, empty when it cannot be run or fails; wrk exits 1 after `-v`."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout.strip().partition("\n")[0]
