"""Which directories a node does not open as what they say they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftwallet.config import Config
from ftwallet.errors import Refused
from ftwallet.journal.identity import Identity
from ftwallet.node.seat import Start, _open_backup_storage, _open_primary_storage
from ftwallet.replication.register import Proposal, ProposalKind, Register
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from ftwallet.witness.file import FileWitness


def _in_the_middle_of_a_state_sync(data_dir: Path, node: str) -> Register:
    """A directory that is marked so, with an incarnation that the witness has in the in-sync set all the same."""
    ensure_cluster(data_dir)
    incarnation = Identity.load(data_dir / node).renew_incarnation(for_state_sync=True)
    witness = FileWitness(data_dir / CLUSTER_FILE)
    text = (data_dir / CLUSTER_FILE).read_text()
    (data_dir / CLUSTER_FILE).write_text(text.replace(witness.read().in_sync[node], incarnation))
    return witness.read()


def test_I1_old_copy_of_a_backup_made_in_the_middle_of_a_state_sync(tmp_path: Path) -> None:
    register = _in_the_middle_of_a_state_sync(tmp_path, "b")
    storage = _open_backup_storage(Start("backup", "b", Config(data_dir=tmp_path)))
    storage.journal.close()
    assert storage.identity.incarnation != register.in_sync["b"]
    assert not storage.identity.state_sync


def test_I1_old_copy_of_a_primary_made_in_the_middle_of_a_state_sync_does_not_lead(tmp_path: Path) -> None:
    _in_the_middle_of_a_state_sync(tmp_path, "a")
    with pytest.raises(Refused, match="old copy, made in the middle of a state sync: it must not lead"):
        _open_primary_storage(Start("primary", "a", Config(data_dir=tmp_path)))


def _counted(data_dir: Path, node: str, boot: int) -> None:
    """The witness has counted this start, and the primary goes on alone since."""
    witness = FileWitness(data_dir / CLUSTER_FILE)
    register = witness.read()
    incarnation = Identity.load(data_dir / node).incarnation
    witness.propose(Proposal(ProposalKind.BOOT, node, incarnation, 0, boot=boot))
    witness.propose(Proposal(ProposalKind.SHRINK, "a", register.in_sync["a"], register.epoch))


@pytest.mark.parametrize(("boot", "counted", "old"), [(1, 2, True), (2, 2, False), (3, 2, False), (0, 2, True)])
def test_I1_old_copy_out_of_the_in_sync_set_is_known_by_its_start(
    tmp_path: Path, boot: int, counted: int, old: bool
) -> None:
    """Its primary may just be counting the acks of the directory that it was, also of one that was new then."""
    ensure_cluster(tmp_path)
    _counted(tmp_path, "b", counted)
    identity = Identity.load(tmp_path / "b")
    if boot:
        identity.record_boot(boot)
    storage = _open_backup_storage(Start("backup", "b", Config(data_dir=tmp_path)))
    storage.journal.close()
    assert (storage.identity.incarnation != identity.incarnation) is old
