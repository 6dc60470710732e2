"""`ftwallet-run logs`: what the processes said, also when nothing runs any more."""

from __future__ import annotations

import time
from pathlib import Path

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.tail import Growing, merged, printer
from ftwallet.cli.terminal import say_json
from ftwallet.errors import Refused
from ftwallet.supervisor.processes import SUPERVISOR_LOG, log_path
from ftwallet.supervisor.roles import ROLES, resolve, role_of
from ftwallet.witness.bootstrap import CLUSTER_FILE, NODES
from ftwallet.witness.file import FileWitness

_LOOK_EVERY_S = 0.1


@click.command()
@click.argument("role", type=click.Choice((*ROLES, SUPERVISOR_LOG)), metavar="[ROLE]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option(
    "-n", "--lines", "count", type=click.IntRange(min=0), default=100, help="Newest lines to show [100]; 0: all."
)
@settings
@as_json
def logs(role: str | None, follow: bool, count: int, as_json: bool) -> None:
    """Show what the processes said, each line with its role; ROLE may also be supervisor."""
    data_dir = load_settings().data_dir
    show = _json_line if as_json else printer()
    sources = {name: Growing(log_path(data_dir, name), 0) for name in _names(data_dir, role)}
    labels = {name: _label(data_dir, name) for name in sources}
    lines = merged({name: growing.new_lines() for name, growing in sources.items()})
    for name, line in lines[-count if count else 0 :]:
        show(labels[name], line)
    while follow:
        time.sleep(_LOOK_EVERY_S)
        for name, line in merged({name: growing.new_lines() for name, growing in sources.items()}):
            show(labels[name], line)


def _names(data_dir: Path, role: str | None) -> list[str]:
    if not (data_dir / "logs").is_dir():
        raise Refused(f"there are no logs in {data_dir}: nothing was started there yet; `ftwallet-run up` does")
    if role is None:
        return [*NODES, SUPERVISOR_LOG]
    if role in (*NODES, SUPERVISOR_LOG):
        return [role]
    return [resolve(role, FileWitness(data_dir / CLUSTER_FILE).read().primary)]


def _label(data_dir: Path, name: str) -> str:
    if name == SUPERVISOR_LOG:
        return name
    try:
        return role_of(name, FileWitness(data_dir / CLUSTER_FILE).read().primary)
    except Refused:  # the record is lost or damaged: the logs may tell how
        return f"node {name}"


def _json_line(label: str, line: str) -> None:
    say_json({"schema": 1, "role": label, "line": line})
