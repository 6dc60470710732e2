"""The first making of a cluster, and the check before every later start that its parts belong together.

The identities of both nodes come first and the cluster record last, so that a crash in between leaves a
directory in which no node can ever have acknowledged anything: the next start finishes it. A record that is
missing beside nodes that have lived is another matter, and is refused. Nothing is created before everything
that is there has been checked.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import NoReturn

from ftwallet import platform
from ftwallet.errors import DiskFault, Refused
from ftwallet.journal.identity import Identity
from ftwallet.replication.register import Register
from ftwallet.witness.file import FileWitness, missing_sentence

NODES = ("a", "b")
CLUSTER_FILE = "cluster.json"
_HISTORY_DIRECTORIES = ("journal", "checkpoints", "quarantine")


def ensure_cluster(data_dir: Path) -> Register:
    """Return the register of the cluster in `data_dir`; an empty directory becomes one, durably.

    A new cluster has node `a` as primary and both nodes in sync. In an existing one a node whose directory is
    missing or empty is made anew with a new incarnation, so that it is not in sync until it has caught up.
    Several processes may call this at the same time.

    Raises:
        Refused: the parts do not belong together, are damaged or from a newer program, or what was
            acknowledged is not there any more; nothing was changed.
        DiskFault: a file could not be written.
    """
    try:
        platform.make_directory(data_dir)
    except OSError as error:
        raise Refused(f"{data_dir} cannot be used as data directory: {error.strerror}") from error
    witness = FileWitness(data_dir / CLUSTER_FILE)
    try:
        with witness.locked():
            return _existing_cluster(witness, data_dir) if witness.exists else _new_cluster(witness, data_dir)
    except OSError as error:
        raise DiskFault(f"{data_dir}: {error.strerror}") from error


def _new_cluster(witness: FileWitness, data_dir: Path) -> Register:
    """Create both identities, or take those that an unfinished start has left, and then the record."""
    found = _identities(data_dir)
    for node in NODES:
        if _has_lived(data_dir / node, found.get(node)):
            raise Refused(missing_sentence(data_dir / CLUSTER_FILE))
    cluster_id = next((identity.cluster_id for identity in found.values()), secrets.token_hex(8))
    _check_cluster(data_dir, cluster_id, found)
    whole = _with_missing_created(data_dir, cluster_id, found)
    return witness.create(cluster_id, {node: identity.incarnation for node, identity in whole.items()})


def _existing_cluster(witness: FileWitness, data_dir: Path) -> Register:
    register = witness.read()
    found = _identities(data_dir)
    _check_cluster(data_dir, register.cluster_id, found)
    _check_epochs(data_dir, register, found)
    _check_somebody_may_lead(data_dir, register, found)
    _with_missing_created(data_dir, register.cluster_id, found)
    return register


def _identities(data_dir: Path) -> dict[str, Identity]:
    return {node: Identity.load(data_dir / node) for node in NODES if Identity.exists(data_dir / node)}


def _has_lived(node_dir: Path, identity: Identity | None) -> bool:
    """Tell whether a node may have acknowledged something: it has made an epoch durable before it does."""
    if identity is not None and (identity.epoch > 0 or identity.boot > 0):
        return True
    return any(path.is_file() for name in _HISTORY_DIRECTORIES for path in (node_dir / name).rglob("*"))


def _check_cluster(data_dir: Path, cluster_id: str, found: dict[str, Identity]) -> None:
    for node, identity in found.items():
        if identity.cluster_id != cluster_id:
            raise Refused(
                f"{data_dir / node} belongs to cluster {identity.cluster_id}, {data_dir} to cluster "
                f"{cluster_id}: move the directory back where it came from"
            )
        if identity.node != node:
            raise Refused(
                f"{data_dir / node} is the directory of node {identity.node}, not of node {node}: "
                "move it back where it came from"
            )


def _check_epochs(data_dir: Path, register: Register, found: dict[str, Identity]) -> None:
    """Refuse a record older than what a node has seen: it was copied back, and its in-sync set may be untrue."""
    for node, identity in found.items():
        boots = register.boots.get(node, 0)
        if identity.epoch > register.epoch:
            _refuse_old_record(data_dir, f"epoch {register.epoch}, but node {node} has seen epoch {identity.epoch}")
        if identity.boot > boots + 1:  # one ahead is a crash right before the witness counted a start
            _refuse_old_record(data_dir, f"start {boots} of node {node}, which has had start {identity.boot}")


def _refuse_old_record(data_dir: Path, where: str) -> NoReturn:
    raise Refused(
        f"{data_dir / CLUSTER_FILE} stands at {where}: it is an old copy. Put the newest copy of {CLUSTER_FILE} back; "
        f"`ftwallet-run verify --data-dir {data_dir}` shows what each node holds"
    )


def _check_somebody_may_lead(data_dir: Path, register: Register, found: dict[str, Identity]) -> None:
    if any(found[node].incarnation == mark for node, mark in register.in_sync.items() if node in found):
        return
    names = " and ".join(str(data_dir / node) for node in sorted(register.in_sync))
    raise Refused(
        f"what was acknowledged last was on {names} alone, which is not there any more as it was: "
        "put that directory back"
    )


def _with_missing_created(data_dir: Path, cluster_id: str, found: dict[str, Identity]) -> dict[str, Identity]:
    for node in NODES:
        if node not in found and _has_lived(data_dir / node, None):
            raise Refused(
                f"{data_dir / node} holds a journal and no identity.json: put the file back, or move the "
                "directory away to have the node rebuilt from its partner"
            )
    return {node: found.get(node) or Identity.create(data_dir / node, cluster_id, node) for node in NODES}
