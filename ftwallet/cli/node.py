"""`ftwallet-run node`: one process by hand, as in three terminals. The supervisor starts its nodes with it, too."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from ftwallet.cli.options import load_settings, settings
from ftwallet.node.process import run
from ftwallet.node.seat import Start
from ftwallet.rpc.sockets import check_socket_paths
from ftwallet.supervisor.roles import BACKUP, PRIMARY, partner
from ftwallet.witness.bootstrap import NODES, ensure_cluster

_ROLES = (PRIMARY, BACKUP)


@click.command()
@click.argument("role", type=click.Choice(_ROLES), metavar="primary|backup")
@click.option("--node", "name", type=click.Choice(NODES), help="Which node; by default the one that has the role.")
@click.option("--supervisor-socket", type=click.Path(path_type=Path), hidden=True)
@click.option("--parent-pid", type=int, hidden=True)
@click.option("--http-fd", type=int, hidden=True)
@settings
def node(
    role: str, name: str | None, supervisor_socket: Path | None, parent_pid: int | None, http_fd: int | None
) -> None:
    """Run one node in this terminal, without a supervisor: nobody restarts or promotes it then.

    Start `ftwallet-run node backup` in one terminal, then `ftwallet-run node primary` in another.
    """
    config = load_settings()
    check_socket_paths(config.data_dir)  # before anything is made
    which = name or _having_role(role, config.data_dir)
    raise SystemExit(run(Start(role, which, config, supervisor_socket, parent_pid, http_fd)))


def _having_role(role: str, data_dir: Path) -> str:
    primary = ensure_cluster(data_dir).primary
    return primary if role == PRIMARY else partner(primary)
