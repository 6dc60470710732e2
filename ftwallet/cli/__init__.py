"""The command line, `ftwallet-run`. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence

from ftwallet.cli.commands import ftwallet_run

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `ftwallet-run` with these arguments (those of the process by default); ends with SystemExit."""
    ftwallet_run.main(args=None if arguments is None else list(arguments), prog_name="ftwallet-run")
