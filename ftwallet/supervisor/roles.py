"""Which node a ROLE means: ports belong to roles, data directories to nodes, and the register says who is primary."""

from __future__ import annotations

from ftwallet.errors import Refused
from ftwallet.witness.bootstrap import NODES

PRIMARY = "primary"
BACKUP = "backup"
ROLES = (PRIMARY, BACKUP, *NODES)


def partner(node: str) -> str:
    """Return the other node's name."""
    return NODES[1] if node == NODES[0] else NODES[0]


def resolve(role: str, primary: str) -> str:
    """Return the node that `role` (primary, backup, or a node's name) means now. Raises Refused for anything else."""
    if role in NODES:
        return role
    if role == PRIMARY:
        return primary
    if role == BACKUP:
        return partner(primary)
    raise Refused(f"{role!r} is neither a role nor a node: it is one of {', '.join(ROLES)}")


def role_of(node: str, primary: str) -> str:
    """Return the role of a node while `primary` is the primary."""
    return PRIMARY if node == primary else BACKUP
