"""What killing a process cannot show, because the kernel's page cache survives it: that every answer waits for disks.

strace is attached by pid to both nodes and tells when each synced its journal.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.checker import Client
from tests.faults.harness import Node
from tests.faults.tracing import strace

_SYNC = re.compile(r"^(\d+\.\d+) (?:fdatasync|fsync)\(\d+<([^>]+)>\) += 0 <(\d+\.\d+)>$", re.MULTILINE)


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


def test_an_answer_waits_for_a_sync_of_the_journal_on_both_nodes(client: Client, tmp_path: Path) -> None:
    pair = client.pair
    client.deposit()
    asked_and_answered = []
    with _traced(pair.a, tmp_path / "a") as a, _traced(pair.b, tmp_path / "b") as b:
        for _ in range(5):
            asked = time.time()
            assert client.deposit().durability == "replicated"
            asked_and_answered.append((asked, time.time()))
    for asked, answered in asked_and_answered:
        of_a, of_b = (
            [one for one in trace.journal_syncs() if asked < one[0] and one[1] < answered] for trace in (a, b)
        )
        assert of_a, f"answered without a sync on a: {a.journal_syncs()}"
        assert of_b, f"answered without a sync on b: {b.journal_syncs()}"
        assert min(end for _, end in of_a) <= max(began for began, _ in of_b), "b was sent what a had not synced"


def test_an_answer_alone_waits_for_a_sync_of_the_journal(client: Client, tmp_path: Path) -> None:
    pair = client.pair
    pair.b.kill()
    client.deposit()
    with _traced(pair.a, tmp_path / "a") as a:
        asked = time.time()
        assert client.deposit().durability == "solo"
        answered = time.time()
    assert a.syncs_between(asked, answered)
