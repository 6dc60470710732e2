"""The line before the journal: single transactions, and slices of batches, each in the order in which they came.

A block takes what waits of both. So a single one that comes while a batch is under way waits for no more than the
slice that is taken before it, however long the batch is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from ftwallet.ledger.operations import Operation
from ftwallet.node.underway import Pending, Slice

_MOST_OF_A_SLICE: Final = 1_024


class Load(NamedTuple):
    """What goes into one block, in this order."""

    transactions: list[Pending]
    slices: list[Slice]

    def operations(self) -> list[Operation]:
        """The records of the block."""
        operations = [pending.operation for pending in self.transactions]
        for one in self.slices:
            operations += one.records
        return operations


class Line:
    """At most `max_batch` operations leave it at a time, but for a group, which is never split."""

    def __init__(self, max_batch: int) -> None:
        self._max_batch = max_batch
        self._transactions: deque[Pending] = deque()
        self._slices: deque[Slice] = deque()
        self._in_slices = 0
        self._reserved = 0
        self.slice_size = min(_MOST_OF_A_SLICE, max(1, max_batch // 2))

    def __len__(self) -> int:
        """How many operations wait, or have their place reserved."""
        return len(self._transactions) + self._in_slices + self._reserved

    @property
    def is_waited_for(self) -> bool:
        """Whether anything waits that nobody has given up."""
        return bool(self._slices) or any(not pending.given_up for pending in self._transactions)

    @property
    def has_slices(self) -> bool:
        """Whether a slice of a batch waits."""
        return bool(self._slices)

    def add(self, pending: Pending) -> None:
        """Let one transaction wait."""
        self._transactions.append(pending)

    def extend(self, pending: Iterable[Pending]) -> None:
        """Let several wait, one after the other."""
        self._transactions.extend(pending)

    def reserve(self, operations: int) -> None:
        """Keep room for a batch whose slices come bit by bit; a negative number gives it back."""
        self._reserved += operations

    def add_slice(self, one: Slice) -> None:
        """Let a slice wait in the room that was kept for it."""
        self._reserved -= len(one.operations)
        self._in_slices += len(one.operations)
        self._slices.append(one)

    def take(self) -> Load:
        """Take the next block's load; an empty one when nobody waits."""
        most = self._max_batch - self.slice_size if self._slices else self._max_batch
        transactions: list[Pending] = []
        while self._transactions and len(transactions) < max(most, 1):
            pending = self._transactions.popleft()
            if not pending.given_up:
                transactions.append(pending)
        return Load(transactions, self._take_slices())

    def _take_slices(self) -> list[Slice]:
        slices: list[Slice] = []
        room = self.slice_size
        while self._slices and (not slices or len(self._slices[0].operations) <= room):
            one = self._slices.popleft()
            self._in_slices -= len(one.operations)
            if not one.given_up:
                slices.append(one)
                room -= len(one.operations)
        return slices
