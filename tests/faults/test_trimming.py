"""Nodes that remove the oldest segments of their logs, and what ends or spoils them in the middle of that or after."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ftwallet.errors import ExitCode
from ftwallet.journal.trimming import NAME
from ftwallet.supervisor.verify import verify
from tests.faults.checker import Client, resolve
from tests.faults.dying_node import order
from tests.faults.harness import Pair, running_pair
from tests.faults.supervised import Supervised, loaded, running_supervised, sample

SEED = 20_251_124

_KEEP_BYTES = 8_192
_SETTINGS: dict[str, Any] = {
    "segment_bytes": 4_096,
    "journal_keep_bytes": _KEEP_BYTES,
    "checkpoint_records": 30,
    "state_sync_records": 1_000_000_000,
}
running = partial(running_supervised, can_die=True, **_SETTINGS)
"""What the fixture `cluster` runs."""


@pytest.fixture(params=["disk", "memory"] if os.environ.get("CAMPAIGN") == "full" else ["disk"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A pair that trims soon. The simulated worlds trim with the state in memory: here that is for `full`."""
    with running_pair(state=request.param, **_SETTINGS) as pair:
        yield pair


def _first_lsn(pair: Pair, name: str) -> int:
    return int(min((pair.data_dir / name / "journal").glob("*.journal")).stem)


def _begin_later(pair: Pair, begins: dict[str, int]) -> bool:
    return all(_first_lsn(pair, name) > lsn for name, lsn in begins.items())


def _trimmed(client: Client, *names: str, beyond: int = 1) -> None:
    """Deposit until the logs of these nodes begin later."""

    def later() -> bool:
        client.deposit("0.01")
        return all(_first_lsn(client.pair, name) > beyond for name in names)

    client.pair.until(later, f"the log of {' and '.join(names)} begins after lsn {beyond}")


def _agree(client: Client) -> None:
    """The pair heals, every answer stands, and both nodes hold the same, also as `verify` reads it."""
    client.pair.start_both()
    resolve(client)
    report = verify(client.pair.data_dir)
    assert report["ok"], report
    assert report["records_compared"] > 0


def _exports_agree(pair: Pair, name: str) -> None:
    a, b = (node.export(pair.root / f"{name}-{node.name}") for node in (pair.a, pair.b))
    assert a == b


def test_C8_both_nodes_trim_under_load_and_start_again(pair: Pair) -> None:
    client = Client(pair)
    _trimmed(client, "a", "b")
    _trimmed(client, "a", "b", beyond=max(_first_lsn(pair, name) for name in "ab"))
    _agree(client)
    _exports_agree(pair, "before")
    for name in "ab":
        pair.nodes[name].kill()
    _agree(client)
    report = verify(pair.data_dir)
    assert any("begins with lsn" in note for note in report["notes"])
    assert report["transactions"] == len(client.asked)
    for name in "ba":
        assert pair.nodes[name].stop() == 0
    _agree(client)
    _exports_agree(pair, "after")


def test_C7_a_backup_from_before_the_log_begins_gets_a_checkpoint(pair: Pair) -> None:
    client = Client(pair)
    client.deposit()
    pair.b.kill()
    pair.wait_mode("solo")
    _trimmed(client, "a", beyond=40)
    pair.start("b")
    pair.wait_paired()
    assert _first_lsn(pair, "b") > 1
    assert client.deposit().durability == "replicated"
    _agree(client)


def test_C8_what_neither_store_nor_checkpoint_has_is_not_trimmed() -> None:
    """The log alone has it: it has to be there after a kill."""
    with running_pair(**_SETTINGS | {"checkpoint_records": 1_000_000_000}) as pair:
        client = Client(pair)
        for _ in range(300):
            client.deposit("0.01")
        pair.until(lambda: len(list((pair.data_dir / "b" / "journal").glob("*.journal"))) > 3, "there is much to trim")
        with pytest.raises(AssertionError, match="not within"):
            pair.until(lambda: _first_lsn(pair, "a") > 1 or _first_lsn(pair, "b") > 1, "a log is trimmed", timeout_s=4)
        for name in "ab":
            pair.nodes[name].kill()
        _agree(client)


# ---- D7: the state that a trimmed log goes on from


def _lose_checkpoints(directory: Path) -> None:
    for path in (directory / "checkpoints").glob("*.checkpoint"):
        path.write_bytes(path.read_bytes()[:-1])


def _lose_store(directory: Path) -> None:
    shutil.rmtree(directory / "store")


@pytest.fixture
def trimmed() -> Iterator[Client]:
    """A client of a pair with stores, whose logs begin later."""
    with running_pair(**_SETTINGS) as pair:
        client = Client(pair)
        _trimmed(client, "a", "b")
        yield client


@pytest.mark.parametrize("lose", [_lose_store, _lose_checkpoints])
def test_D7_one_damaged_state_of_two_costs_nothing(trimmed: Client, lose: object) -> None:
    pair = trimmed.pair
    for name in "ab":
        pair.nodes[name].kill()
    assert callable(lose)
    for name in "ab":
        lose(pair.data_dir / name)
    report = verify(pair.data_dir)
    assert report["ok"], report
    begins = {name: _first_lsn(pair, name) for name in "ab"}
    _agree(trimmed)
    assert all(_first_lsn(pair, name) >= begins[name] for name in "ab")
    assert not (pair.data_dir / "b" / "quarantine").exists()


def test_D7_a_backup_that_has_lost_both_is_rebuilt(trimmed: Client) -> None:
    pair = trimmed.pair
    pair.b.kill()
    _lose_store(pair.data_dir / "b")
    _lose_checkpoints(pair.data_dir / "b")
    pair.start("b")
    pair.wait_paired()
    assert "rebuilt from its partner" in pair.b.said()
    _agree(trimmed)


def test_D7_a_primary_that_has_lost_both_says_so(trimmed: Client) -> None:
    pair = trimmed.pair
    pair.a.kill()
    _lose_store(pair.data_dir / "a")
    _lose_checkpoints(pair.data_dir / "a")
    node = pair.start("a")
    assert node.ends() == ExitCode.CORRUPTION
    assert "neither the node's store nor" in node.reason()["sentence"]
    report = verify(pair.data_dir)
    assert report["ok"], report  # the partner's state vouches for both logs


def test_D7_without_its_mark_a_trimmed_log_counts_as_damaged(trimmed: Client) -> None:
    pair = trimmed.pair
    pair.b.kill()
    (pair.data_dir / "b" / "journal" / NAME).unlink()
    pair.start("b")
    pair.wait_paired()
    assert "segments before this one are missing" in pair.b.said()
    _agree(trimmed)


# ---- Below a supervisor: deaths in the middle, and the next primary


@pytest.mark.parametrize(("victim", "when"), sample(SEED, list(product(("primary", "backup"), ("before", "after"))), 1))
def test_C8_a_node_dies_in_the_middle_of_a_trimming(
    client: Client, cluster: Supervised, victim: str, when: str
) -> None:
    node = getattr(cluster, victim)
    pid = node.pid
    order(cluster.data_dir, node.name, when, NAME)
    load = loaded(client)
    node.ends(pid)
    load.until(100)
    cluster.until(lambda: all(_first_lsn(cluster, name) > 1 for name in "ab"), "both trim, whoever leads")
    load.stop()
    cluster.wait_paired()
    resolve(client)
    cluster.agree()


def test_C2_a_promoted_node_trims_too(client: Client, cluster: Supervised) -> None:
    load = loaded(client)
    cluster.until(lambda: all(_first_lsn(cluster, name) > 1 for name in "ab"), "both trim")
    for _ in range(2):
        cluster.primary.kill()
        cluster.wait_paired()
        begins = {name: _first_lsn(cluster, name) for name in "ab"}
        cluster.until(partial(_begin_later, cluster, begins), "both trim on")
    load.stop()
    resolve(client)
    cluster.agree()
