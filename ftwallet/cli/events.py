"""`ftwallet-run events`: the durable history of the cluster, also when nothing runs."""

from __future__ import annotations

import time

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.tail import Growing
from ftwallet.cli.terminal import console, say_json
from ftwallet.errors import Refused
from ftwallet.supervisor.events import EVENTS_FILE, SCHEMA, Event, decode

_LOOK_EVERY_S = 0.1
_STYLES = {
    "node-died": "red",
    "node-failed": "bold red",
    "refused": "yellow",
    "solo": "yellow",
    "paired": "green",
    "serving": "green",
}


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "-n", "--lines", "count", type=click.IntRange(min=0), default=100, help="Newest events to show [100]; 0: all."
)
@settings
@as_json
def events(follow: bool, count: int, as_json: bool) -> None:
    """Show what happened to the cluster, with reasons; with --json one object a line."""
    path = load_settings().data_dir / EVENTS_FILE
    if not path.exists() and not follow:
        raise Refused(f"{path} does not exist: no supervisor has run there yet; `ftwallet-run up` starts one")
    growing, show = Growing(path, 0), _show_json if as_json else _show_text
    lines = growing.new_lines()
    for line in lines[-count if count else 0 :]:
        show(decode(line.encode()))
    while follow:
        time.sleep(_LOOK_EVERY_S)
        for line in growing.new_lines():
            show(decode(line.encode()))


def _show_json(event: Event) -> None:
    say_json({"schema": SCHEMA, **event._asdict()})


def _show_text(event: Event) -> None:
    out = console()
    out.print(event.at, style="dim", end="  ", markup=False)
    out.print(event.sentence, style=_STYLES.get(event.kind, ""), markup=False)
