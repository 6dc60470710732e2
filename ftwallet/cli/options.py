"""Options that many commands take."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from ftwallet.config import Config, load
from ftwallet.supervisor.roles import ROLES

F = TypeVar("F", bound=Callable[..., Any])


def settings(command: F) -> F:
    """Add `--config` and `--data-dir`; the command asks `load_settings` for what they name."""

    def take(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        if value is not None:  # what was said before the name of a subcommand holds unless it is said again
            context.meta[f"ftwallet.{parameter.name}"] = value

    config = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False, readable=False),
        expose_value=False,
        callback=take,
        help="Settings (TOML); else FTWALLET_CONFIG, else ./config.toml, else the defaults.",
    )
    data_dir = click.option(
        "--data-dir",
        "data_dir",
        type=click.Path(path_type=Path, file_okay=False, readable=False),  # what reads it says more of what it needs
        expose_value=False,
        callback=take,
        help="Directory of the ledger; overrides the settings' data_dir.",
    )
    return config(data_dir(command))


def load_settings() -> Config:
    """Return the settings that the running command's options name. Raises Refused."""
    context = click.get_current_context()
    meta = context.meta if context else {}
    return load(meta.get("ftwallet.config_path"), meta.get("ftwallet.data_dir"))


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, on stdout alone.")

role_argument = click.argument("role", type=click.Choice(ROLES), metavar="ROLE")


class SignalType(click.ParamType[int]):
    """A signal: SIGKILL, kill, or 9."""

    name = "signal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the signal's number."""
        if isinstance(value, int):
            return value
        text = str(value).upper()
        try:
            if text.isdigit():
                return signal.Signals(int(text)).value
            return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"].value
        except (ValueError, KeyError):
            self.fail(f"{value!r} is no signal; use a name such as SIGKILL or TERM, or a number", param, ctx)
