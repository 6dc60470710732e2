"""The processes' log files, kept to a bounded size."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LONGEST_LOG = 32 * 1024 * 1024
"""Bytes after which a log is begun anew; as much again is kept beside it."""


def keep_short(path: Path, longest: int = LONGEST_LOG) -> bool:
    """Begin a log anew when it is too long, its content kept as `NAME.1`; tells whether it did.

    The process that writes it holds it open for appending and so goes on in the emptied file; a line that it writes in
    between may be lost. Raises OSError.
    """
    if not path.exists() or path.stat().st_size <= longest:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True
