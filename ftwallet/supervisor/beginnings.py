"""Where `verify` begins to execute when no log begins with lsn 1: with a state that a node has on its disk.

Checkpoints and stores of both nodes are looked at, the oldest first, so that as many records as possible are executed;
each counts only for a log that has just its hash at its lsn. The files of a running node are read as they are, and
nothing of them is changed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ftwallet.errors import DiskFault, Refused
from ftwallet.journal.checkpoints import CheckpointMeta, list_files, load_file, lsn_of
from ftwallet.journal.reader import holds
from ftwallet.journal.recovery import Log
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.state import MemoryState
from ftwallet.store.state import described, table_chunks
from ftwallet.store.table import Glimpse

_ATTEMPTS = 3  # at a store that its node writes meanwhile


class Beginning(NamedTuple):
    """A ledger in memory, as it was at one lsn, and whose file it is from."""

    lsn: int
    ledger: Ledger
    state: MemoryState
    source: str


_Chunks = tuple[CheckpointMeta, Iterator[bytes]]


class _Candidate(NamedTuple):
    lsn: int
    source: str
    open: Callable[[], contextlib.AbstractContextManager[_Chunks]]


def find_beginning(node_dirs: dict[str, Path], logs: Sequence[Log]) -> Beginning | None:
    """The oldest sound state that one of the logs goes on from; None when there is none."""
    candidates = [one for node, directory in node_dirs.items() for one in _candidates(node, directory)]
    for candidate in sorted(candidates, key=lambda one: one.lsn):
        # Damaged, or removed just now for a newer one: then another will do.
        with contextlib.suppress(DiskFault, Refused, ValueError, OSError), candidate.open() as (meta, chunks):
            if any(holds(log, meta.lsn, meta.chain) for log in logs):
                state = MemoryState()
                return Beginning(meta.lsn, Ledger.restore(chunks, state), state, candidate.source)
    return None


def _candidates(node: str, directory: Path) -> Iterator[_Candidate]:
    for path in list_files(directory / "checkpoints"):
        yield _Candidate(lsn_of(path), f"the checkpoint of node {node}", partial(_checkpoint, path))
    store = directory / "store" / "table"
    for _ in range(_ATTEMPTS if store.is_dir() else 0):
        with contextlib.suppress(DiskFault, Refused, ValueError), _stored(store) as (meta, _chunks):
            yield _Candidate(meta.lsn, f"the store of node {node}", partial(_stored, store))
            return


@contextlib.contextmanager
def _checkpoint(path: Path) -> Iterator[_Chunks]:
    yield load_file(path)


@contextlib.contextmanager
def _stored(table: Path) -> Iterator[_Chunks]:
    with tempfile.TemporaryDirectory() as beside, contextlib.closing(Glimpse(table, Path(beside))) as glimpse:
        meta, standing = described(glimpse.description)
        yield meta, table_chunks(glimpse, standing)
