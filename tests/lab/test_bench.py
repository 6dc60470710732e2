"""The bench over real processes, as short as can be: that it runs and that its proof holds, not how fast it was."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ftwallet.config import Config, load
from ftwallet.errors import Refused
from ftwallet.journal.journal import SEGMENT_BYTES
from ftwallet.lab import batch, growth, kinds, overload, preload, recovery, replay, single
from ftwallet.lab.pair import own_config, temporary_directory, temporary_pair, write_config
from ftwallet.lab.plan import Plan
from ftwallet.node.base import StoreBase
from ftwallet.node.storage import open_storage
from ftwallet.witness.bootstrap import NODES

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt install wrk")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a path short enough for unix sockets, which pytest's own may not be."""
    with tempfile.TemporaryDirectory(prefix="ftw-") as path:
        yield Path(path)


@needs_wrk
def test_a_short_run_is_measured_and_verified(place: Path) -> None:
    wrk = str(shutil.which("wrk"))
    with temporary_directory(place) as directory:
        plan = Plan(wrk, directory, Config(), seconds=1, rounds=1, connections=(2,), warm_up_s=0)
        found = single.measure(plan)
    assert found.ok, found.lines
    assert not list(place.iterdir())
    (line,) = found.document["lines"]
    for side in ("raw", "deposit"):
        assert line[side]["requests_per_s"] > 0
        assert not any(line[side]["errors"].values())
    verified = found.document["verified"]
    assert verified["answered"] > 0
    assert set(verified["records"]) == {"primary", "backup"}
    assert [child for child in psutil.Process().children() if "ftwallet" in " ".join(child.cmdline())] == []


@needs_wrk
def test_a_short_mix_is_measured_and_verified(place: Path) -> None:
    with temporary_directory(place) as directory:
        plan = Plan("wrk", directory, Config(), seconds=2, rounds=1, connections=(8,), warm_up_s=0)
        found = single.measure_mixed(plan)
    assert found.ok, found.lines
    (line,) = found.document["lines"]
    assert line["ratio"] > 0
    assert not any(line["mix"]["errors"].values())


@needs_wrk
def test_short_runs_of_all_kinds_are_measured_and_verified(place: Path) -> None:
    with temporary_directory(place) as directory:
        plan = Plan("wrk", directory, Config(), seconds=1, rounds=1, connections=(8,), warm_up_s=0)
        found = kinds.measure(plan)
    assert found.ok, found.lines
    (line,) = found.document["lines"]
    assert line["ratios"]["transfers"] > 0
    for kind in ("deposits", "transfers"):
        assert line[kind]["requests_per_s"] > 0
        assert not any(line[kind]["errors"].values())


@needs_wrk
def test_short_runs_of_batches_are_measured_and_verified(place: Path) -> None:
    with temporary_directory(place) as directory:
        plan = Plan("wrk", directory, Config(), seconds=1, rounds=1, connections=(2,), warm_up_s=0)
        found = batch.measure(plan)
    assert found.ok, found.lines
    assert [one["size"] for one in found.document["sizes"]] == [1_000, 8_000]
    assert min(one["ratio"] for one in found.document["sizes"]) > 0
    (line,) = found.document["beside"]
    assert line["batches"]["per_second"] > 0
    assert not any(line["beside"]["errors"].values())


@needs_wrk
def test_a_short_overload_is_refused_and_gotten_over(place: Path) -> None:
    with temporary_directory(place) as directory:
        plan = Plan("wrk", directory, Config(), seconds=1, rounds=1, connections=(500,), warm_up_s=0)
        found = overload.measure(plan)
    assert found.ok, found.lines
    (line,) = found.document["lines"]
    assert line["ratio"] > 0
    assert line["overload"]["refused_per_s"] > 0
    assert line["probes"].keys() <= {"200", "503"}
    assert min(line["primary_anonymous_bytes"]["after"]) > 0


@needs_wrk
def test_a_short_run_with_a_past_is_measured_and_verified(place: Path) -> None:
    with temporary_directory(place) as directory:
        plan = Plan("wrk", directory, Config(), 1, 1, (2,), past=20_003, accounts=5_000, warm_up_s=0)
        found = growth.measure(plan)
    assert found.ok, found.lines
    assert not list(place.iterdir())
    (line,) = found.document["lines"]
    assert line["ratio"] > 0
    assert not any(line["grown"]["errors"].values())
    verified = found.document["verified"]
    assert verified["grown"]["answered"] > 20_003 > verified["empty"]["answered"]
    assert verified["grown"]["records"]["backup"] >= verified["grown"]["answered"]


@needs_wrk
def test_a_short_recovery_is_measured_and_verified(place: Path) -> None:
    with temporary_directory(place) as directory:
        found = recovery.measure(Plan("wrk", directory, Config(), transactions=500, kills=1, records=2_000))
    assert found.ok, found.lines
    assert {role: len(node["ready_after_s"]) for role, node in found.document["nodes"].items()} == {
        "primary": 1,
        "backup": 1,
    }
    assert min(node["ratio"] for node in found.document["nodes"].values()) > 0
    assert [one["block"] for one in found.document["replay"]] == [1_024, 64]


def test_a_log_is_replayed_by_the_code_of_a_start(place: Path) -> None:
    plan = Plan("", place, Config(), records=3_001)
    found = replay.measure_replays(plan)
    assert not list(place.iterdir())
    assert [one.block for one in found] == [1_024, 64]
    for one in found:
        document = one.document()
        assert document["decode_records_per_s"] > 0
        assert min(document[state]["ratio"] for state in replay.STATES) > 0
    assert len(replay.replay_grid(plan, found).rows) == 6


def test_a_past_is_what_nodes_would_have_left(place: Path) -> None:
    preload.make(place / "data", 8_001, 3)
    for node in NODES:
        base = StoreBase(place / "data" / node, 1_000)
        storage = open_storage(place / "data" / node, SEGMENT_BYTES, base)
        try:
            ledger = storage.ledger
            assert (storage.checkpoint_lsn, ledger.applied_lsn, storage.tail.count) == (8_001, 8_001, 0)
            assert dict(ledger.export_accounts()) == {f"account-{number}": 2_667 * 125 for number in range(3)}
            assert len({transaction.transaction_id for transaction in ledger.transactions()}) == 8_001
        finally:
            storage.journal.close()
            base.close()


def test_the_pairs_settings_are_the_users_but_for_ports_and_places(tmp_path: Path) -> None:
    settings = Config(max_batch=77, ack_timeout_s=0.5, currency_exponent=0, http_port=8000)
    own = own_config(tmp_path, settings, 23_456)
    assert (own.max_batch, own.ack_timeout_s, own.currency_exponent, own.http_port) == (77, 0.5, 2, 23_456)
    assert own.data_dir == tmp_path / "data"
    assert not {8000, 50_051, 50_052} & {own.http_port, own.primary_grpc_port, own.backup_grpc_port}
    read = load(write_config(tmp_path / "config.toml", own))
    assert read.model_dump() == own.model_dump()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no directory can be made there"), temporary_directory(tmp_path / "missing"):
        pass


def test_a_place_whose_sockets_would_have_too_long_a_path_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(Refused, match="107"), temporary_pair(deep, Config()):
        pass
