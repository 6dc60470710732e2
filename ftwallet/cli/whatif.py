"""`ftwallet-run whatif`: what would happen, by the same decisions as the real thing."""

from __future__ import annotations

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, role_argument, settings
from ftwallet.cli.terminal import say, say_json
from ftwallet.supervisor.client import SupervisorClient


@click.group()
@settings
def whatif() -> None:
    """Say what would happen now, without doing it."""


@whatif.command()
@role_argument
@settings
@as_json
def kill(role: str, as_json: bool) -> None:
    """Say what `kill ROLE` would do now: who would lead, what clients would notice, what becomes of the node."""
    with SupervisorClient(load_settings().data_dir) as supervisor:
        document = supervisor.what_if_killed(role)
    if as_json:
        say_json(document)
        return
    pid = "" if document["pid"] is None else f", pid {document['pid']}"
    say(f"If node {document['node']} ({document['role']}{pid}) were killed now:")
    for sentence in document["sentences"]:
        say(f"- {sentence}")
