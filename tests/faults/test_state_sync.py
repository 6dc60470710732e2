"""A backup too far behind gets a checkpoint instead of the log, whatever ends it in the middle of that."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ftwallet.journal.identity import Identity
from tests.faults.checker import Client, check
from tests.faults.harness import Pair, running_pair

_RECORDS = 20
"""Of a checkpoint, and of what a state sync must save."""
_ACCOUNTS = 12_000


@pytest.fixture
def client() -> Iterator[Client]:
    """A client of a pair that syncs state soon."""
    with running_pair(checkpoint_records=_RECORDS, state_sync_records=_RECORDS, segment_bytes=4_096) as pair:
        yield Client(pair)


def _first_lsn(pair: Pair, name: str) -> int:
    return int(min((pair.data_dir / name / "journal").glob("*.journal")).stem)


def _fall_behind(client: Client) -> None:
    """The backup is killed, and the primary goes on until a checkpoint would save it records enough."""
    pair = client.pair
    status = pair.a.status()
    assert status is not None
    pair.b.kill()
    pair.wait_mode("solo")
    checkpoints = pair.data_dir / "a" / "checkpoints"

    def far_enough() -> bool:
        client.deposit()
        return any(int(path.stem) > status.durable_lsn + _RECORDS for path in checkpoints.glob("*.checkpoint"))

    pair.until(far_enough, "the primary has written a checkpoint that is well past its backup")


def test_I1_emptied_directory_is_rebuilt_by_a_state_sync(client: Client) -> None:
    pair = client.pair
    before = Identity.load(pair.data_dir / "b").incarnation
    _fall_behind(client)
    shutil.rmtree(pair.data_dir / "b")
    pair.start("b")
    pair.wait_paired()
    assert _first_lsn(pair, "b") > _RECORDS
    identity = Identity.load(pair.data_dir / "b")
    assert pair.register().in_sync["b"] == identity.incarnation != before
    assert not identity.state_sync
    check(client)
