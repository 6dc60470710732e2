"""The command line, `ftwallet-run`. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ftwallet.cli.commands import ftwallet_run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ftwallet-run` with these arguments (those of the process by default); ends with SystemExit."""
    # gRPC's C core tells on stderr of every connection that a killed process leaves, and of a taken port, for which we
    # have a sentence; read when grpc is imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    ftwallet_run.main(args=None if arguments is None else list(arguments), prog_name="ftwallet-run")
