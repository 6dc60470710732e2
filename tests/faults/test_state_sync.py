"""A backup too far behind gets a checkpoint instead of the log, whatever ends it in the middle of that."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftwallet.errors import ExitCode
from ftwallet.journal.identity import Identity
from ftwallet.replication.messages import SLICE_BYTES
from ftwallet.replication.register import Proposal, ProposalKind, decide
from ftwallet.supervisor.verify import verify
from tests.faults.checker import Client, check, resolve
from tests.faults.harness import PATIENCE_S, Pair, running_pair

_RECORDS = 20
"""Of a checkpoint, and of what a state sync must save."""
_SETTINGS: dict[str, object] = {
    "checkpoint_records": _RECORDS,
    "state_sync_records": _RECORDS,
    "segment_bytes": 4_096,
    "max_batch": 16,
}
_ACCOUNTS = 30_000
"""Imported, so that their checkpoint is some 4 MB large, and takes a while."""


@pytest.fixture(params=["disk", "memory"] if os.environ.get("CAMPAIGN") == "full" else ["disk"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a pair that syncs state soon. The simulated worlds sync it in memory: here that is for `full`."""
    with running_pair(state=request.param, **_SETTINGS) as pair:
        yield Client(pair)


@pytest.fixture
def large() -> Iterator[Client]:
    """The same, with a large state."""
    with running_pair(**_SETTINGS | {"segment_bytes": 1 << 26, "max_batch": 2_048}) as pair:
        wallets, transactions = pair.root / "wallets.json", pair.root / "transactions.json"
        wallets.write_text(json.dumps({f"{number:0>120}": 1 for number in range(_ACCOUNTS)}))
        transactions.write_text("{}")
        pair.a.import_files(wallets, transactions)
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

    def far_enough() -> bool:
        client.deposit()
        written = re.findall(r"(?:Checkpoint|Store) written at lsn (\d+)", pair.a.said())
        return any(int(lsn) > status.durable_lsn + _RECORDS for lsn in written)

    pair.until(far_enough, "what the primary has written is well past its backup")


def _until_it_has(pair: Pair, size: int) -> None:
    """Wait, looking often, until the backup has so many bytes of a checkpoint."""
    ends_at = time.monotonic() + PATIENCE_S
    while _part_bytes(pair) < size:
        assert time.monotonic() < ends_at, f"no part of a checkpoint comes\n{pair.told()}"
        time.sleep(0.0005)


def _part_bytes(pair: Pair) -> int:
    try:
        return sum(path.stat().st_size for path in (pair.data_dir / "b" / "checkpoints").glob("*.part"))
    except OSError:  # it has just been made, or installed
        return 0


def _is_not_promotable(pair: Pair) -> None:
    register, identity = pair.register(), Identity.load(pair.data_dir / "b")
    assert register.in_sync == {"a": Identity.load(pair.data_dir / "a").incarnation}
    asked = Proposal(ProposalKind.PROMOTE, "b", identity.incarnation, register.epoch)
    assert not decide(register, asked).granted


def _resumed_at(pair: Pair) -> list[int]:
    """How many bytes the backup's process had of the file, at each session."""
    return [int(held) for held in re.findall(r"State sync: (\d+) of \d+ bytes", pair.b.said())]


def _agree(client: Client) -> None:
    """What the imports make too many for the checker: both nodes hold the same, and every answer stands."""
    pair = client.pair
    pair.start_both()
    resolve(client)
    report = verify(pair.data_dir)
    assert report["ok"], report
    assert report["records_compared"] > 0


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


def test_I1_a_backup_that_had_a_state_sync_starts_again_and_falls_behind_again(client: Client) -> None:
    pair = client.pair
    for _ in range(2):
        _fall_behind(client)
        pair.start("b")
        pair.wait_paired()
        first_lsn = _first_lsn(pair, "b")
        assert first_lsn > _RECORDS
        client.deposit()
        pair.b.kill()
        pair.start("b")
        pair.wait_paired()
        assert _first_lsn(pair, "b") == first_lsn
        check(client)


@pytest.mark.parametrize("damaged", [False, True])
def test_I1_D7_the_rebuilt_node_leads_and_rebuilds_its_partner(client: Client, damaged: bool) -> None:
    """Its log begins after a checkpoint, so a partner without records gets one, whatever the threshold.

    If there is no sound one any more, it is made for that.
    """
    pair = client.pair
    _fall_behind(client)
    pair.start("b")
    pair.wait_paired()
    for name in "ab":
        assert pair.nodes[name].stop() == 0
    pair.settings["state_sync_records"] = 1_000_000_000
    shutil.rmtree(pair.data_dir / "a")
    _promote_b(pair)
    leader = pair.start("b", role="primary")
    pair.until(pair.rest.healthy, "b leads")
    if damaged:
        _damage_checkpoints(pair.data_dir / "b")
    pair.start("a", role="backup")

    def rebuilt() -> bool:
        status = leader.status()
        return status is not None and status.mode == "paired"

    pair.until(rebuilt, "b leads, and a is rebuilt")
    assert _first_lsn(pair, "a") > _RECORDS
    pair.rest.close()  # a connection to the primary that was stopped
    assert client.deposit().durability == "replicated"
    resolve(client)
    report = verify(pair.data_dir)
    assert report["ok"], report


def _promote_b(pair: Pair) -> None:
    """What a supervisor has the witness record when node a's disk is gone."""
    path = pair.data_dir / "cluster.json"
    register = json.loads(path.read_text())
    path.write_text(json.dumps(register | {"primary": "b", "in_sync": {"b": register["in_sync"]["b"]}}))


def test_C7_backup_dies_in_the_middle_of_a_state_sync(large: Client) -> None:
    pair = large.pair
    incarnations = {Identity.load(pair.data_dir / "b").incarnation}
    _fall_behind(large)
    shutil.rmtree(pair.data_dir / "b" / "journal")  # its log is lost, so all of the state has to come
    for _ in range(2):
        pair.start("b")
        _until_it_has(pair, 4 * SLICE_BYTES)
        pair.b.kill()
        identity = Identity.load(pair.data_dir / "b")
        assert identity.state_sync
        incarnations.add(identity.incarnation)
        _is_not_promotable(pair)
    assert len(incarnations) == 2, "one state sync, one new incarnation"
    pair.start("b")
    pair.wait_paired()
    assert _resumed_at(pair)[0] >= 3 * SLICE_BYTES
    assert not Identity.load(pair.data_dir / "b").state_sync
    assert large.deposit().durability == "replicated"
    _agree(large)


def test_C7_primary_dies_in_the_middle_of_a_state_sync(large: Client) -> None:
    """The backup tells how far it has come, and goes on with the same file of the primary's next life."""
    pair = large.pair
    _fall_behind(large)
    shutil.rmtree(pair.data_dir / "b")
    pair.start("b")
    _until_it_has(pair, 4 * SLICE_BYTES)
    pair.a.pause()
    status = pair.b.status()
    assert status is not None
    assert status.state == "catching-up"
    assert re.fullmatch(r"state sync of the checkpoint at lsn \d+: \d of \d MB", status.reason), status.reason
    assert status.counters["behind"] >= _RECORDS
    pair.a.kill()
    _is_not_promotable(pair)
    pair.start("a")
    pair.wait_paired()
    resumed_at = _resumed_at(pair)
    assert resumed_at[0] == 0
    assert resumed_at[-1] >= 4 * SLICE_BYTES
    assert large.deposit().durability == "replicated"
    _agree(large)


def test_C7_backup_dies_in_the_middle_of_catching_up(client: Client) -> None:
    pair = client.pair
    pair.a.stop()
    pair.settings["state_sync_records"] = 1_000_000_000  # by blocks, then
    pair.start_both()
    _fall_behind(client)
    for _ in range(400):
        client.deposit()
    status = pair.a.status()
    assert status is not None
    pair.start("b")

    def halfway() -> bool:
        caught_up = pair.b.status()
        if caught_up is None or caught_up.state != "catching-up" or "records behind" not in caught_up.reason:
            return False
        assert caught_up.counters["behind"] > 0
        return True

    pair.until(halfway, "the backup says how far it is behind")
    pair.b.kill()
    _is_not_promotable(pair)
    pair.start("b")
    pair.wait_paired()
    check(client)


# ---- D7: a log that begins after a checkpoint, and no checkpoint of it


def _damage_checkpoints(directory: Path) -> None:
    for path in (directory / "checkpoints").glob("*.checkpoint"):
        path.write_bytes(path.read_bytes()[:-1])
    shutil.rmtree(directory / "store", ignore_errors=True)


def test_D7_backup_whose_log_begins_after_a_damaged_checkpoint_is_rebuilt(client: Client) -> None:
    pair = client.pair
    _fall_behind(client)
    pair.start("b")
    pair.wait_paired()
    pair.b.kill()
    before = Identity.load(pair.data_dir / "b").incarnation
    _damage_checkpoints(pair.data_dir / "b")
    pair.start("b")
    pair.wait_paired()
    assert "and neither the node's store nor" in pair.b.said()
    assert pair.register().in_sync["b"] == Identity.load(pair.data_dir / "b").incarnation != before
    check(client)


def test_D7_primary_whose_log_begins_after_a_damaged_checkpoint_stops_with_a_sentence(client: Client) -> None:
    pair = client.pair
    _fall_behind(client)
    pair.start("b")
    pair.wait_paired()
    for name in "ab":
        pair.nodes[name].kill()
    _damage_checkpoints(pair.data_dir / "b")
    _promote_b(pair)
    assert pair.start("b", role="primary").ends() == ExitCode.CORRUPTION
    assert "rebuild this node from its partner" in str(pair.b.reason()["sentence"])
