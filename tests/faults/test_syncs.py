"""What killing a process cannot show, because the kernel's page cache survives it: that every answer waits for disks.

strace is attached by pid to both nodes and tells when each synced its journal.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from ftwallet.journal import Journal
from ftwallet.journal.identity import Identity
from ftwallet.ledger.operations import decode_operations
from tests.faults.checker import Client
from tests.faults.harness import Node, Pair, running_pair
from tests.faults.test_batches import MODES, Batch
from tests.faults.tracing import strace
from tests.faults.wire import Answer

_SYNC = re.compile(r"^(\d+\.\d+) (?:fdatasync|fsync)\(\d+<([^>]+)>\) += 0 <(\d+\.\d+)>$", re.MULTILINE)


def running() -> AbstractContextManager[Pair]:
    """With the store: what is written behind it is no reason for an answer, only the journal is."""
    return running_pair(state="disk")


@pytest.fixture(scope="module")
def bulk() -> Iterator[Client]:
    """A pair that takes thousands, too many for the checker, which asks for each alone; they settle as batches."""
    with running() as pair:
        client = Client(pair)
        client.deposit()
        yield client


class Trace:
    """The syncs of one node while it was traced; `output` begins the names of strace's files, one a thread."""

    def __init__(self, node: Node, output: Path) -> None:
        self._output = output
        self._journal = str(node.directory / "journal")

    def journal_syncs(self) -> list[tuple[float, float]]:
        """(began, ended) of every finished sync of a journal file, in seconds since 1970."""
        found = _SYNC.findall("".join(file.read_text() for file in self._output.parent.glob(f"{self._output.name}.*")))
        times = [(float(began), float(took)) for began, path, took in found if path.startswith(self._journal)]
        return [(began, began + took) for began, took in times]

    def syncs_between(self, start: float, end: float) -> list[tuple[float, float]]:
        return [one for one in self.journal_syncs() if start < one[0] and one[1] < end]


@contextlib.contextmanager
def _traced(node: Node, output: Path) -> Iterator[Trace]:
    options = ["-ff", "-ttt", "-T", "-y", "-e", "trace=fdatasync,fsync", "-o", str(output)]  # a file for each thread
    with strace(node.pid, *options):
        yield Trace(node, output)


class Timed(NamedTuple):
    """One request that was alone: seconds since 1970 just before it was sent and just after it was answered."""

    asked: float
    answered: float


def _timed(ask: Callable[[], Answer | None]) -> Timed:
    asked = time.time()
    answer = ask()
    answered = time.time()
    assert answer is not None
    assert (answer.status, answer.durability) == (200, "replicated"), answer.body[:500]
    return Timed(asked, answered)


def _assert_synced_first(requests: Iterable[Timed], a: Trace, b: Trace) -> None:
    """Each request has cost both disks a sync of its own, the primary's first: no two of them share one."""
    for asked, answered in requests:
        of_a, of_b = (trace.syncs_between(asked, answered) for trace in (a, b))
        assert of_a, f"answered without a sync on a: {a.journal_syncs()}"
        assert of_b, f"answered without a sync on b: {b.journal_syncs()}"
        assert min(end for _, end in of_a) <= max(began for began, _ in of_b), "b was sent what a had not synced"


def test_an_answer_waits_for_a_sync_of_the_journal_on_both_nodes(client: Client, tmp_path: Path) -> None:
    pair = client.pair
    client.deposit()
    with _traced(pair.a, tmp_path / "a") as a, _traced(pair.b, tmp_path / "b") as b:
        requests = [_timed(client.deposit) for _ in range(5)]
    _assert_synced_first(requests, a, b)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_waits_for_a_sync_of_the_journal_on_both_nodes(bulk: Client, tmp_path: Path, mode: str) -> None:
    pair = bulk.pair
    batches = [Batch(bulk, mode, 1_000) for _ in range(5)]
    with _traced(pair.a, tmp_path / "a") as a, _traced(pair.b, tmp_path / "b") as b:
        requests = [_timed(batch.send) for batch in batches]
    _assert_synced_first(requests, a, b)
    for batch in batches:
        batch.settle()


def test_each_block_of_a_batch_has_a_sync_on_both_nodes_before_the_answer(bulk: Client, tmp_path: Path) -> None:
    """A batch that is many blocks long is not answered when only its first or its last is on disk."""
    pair, batch = bulk.pair, Batch(bulk, "independent", 8_000)
    with _traced(pair.a, tmp_path / "a") as a, _traced(pair.b, tmp_path / "b") as b:
        request = _timed(batch.send)
    batch.settle()
    blocks = _blocks_with(pair.data_dir / "a", frozenset(batch.ids))
    assert blocks > 1
    _assert_synced_first([request], a, b)
    for trace in (a, b):
        assert len(trace.syncs_between(*request)) >= blocks, f"{blocks} blocks, and {trace.journal_syncs()}"


def _blocks_with(node_dir: Path, ids: frozenset[str]) -> int:
    """How many blocks of a node's log hold any of these."""
    journal = Journal.open(node_dir / "journal", Identity.load(node_dir).cluster_id, read_only=True)
    with contextlib.closing(journal):
        return sum(
            any(one.transaction_id in ids for one in decode_operations(block.payload)) for block in journal.blocks()
        )


def test_an_answer_alone_waits_for_a_sync_of_the_journal(client: Client, tmp_path: Path) -> None:
    pair = client.pair
    pair.b.kill()
    client.deposit()
    with _traced(pair.a, tmp_path / "a") as a:
        asked = time.time()
        assert client.deposit().durability == "solo"
        answered = time.time()
    assert a.syncs_between(asked, answered)
