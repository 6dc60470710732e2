"""The end of a log that recovery found beyond its commit: PENDING, until the pair has settled how much of it stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from ftwallet.journal import Block
from ftwallet.ledger.operations import Kind, Operation, decode_operations
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction


class Tail:
    """Blocks in order of lsn, none of them executed."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = deque(blocks)
        self._ids = self._collect_ids()

    @property
    def count(self) -> int:
        """How many records it holds."""
        return sum(block.count for block in self._blocks)

    @property
    def newest_time_us(self) -> int:
        """The newest time in it, microseconds since 1970 UTC; 0 when it is empty."""
        return max((one.time_us for block in self._blocks for one in decode_operations(block.payload)), default=0)

    def take(self, lsn: int) -> Iterator[Block]:
        """Take off the blocks up to `lsn`, one by one, to be executed."""
        while self._blocks and self._blocks[0].last_lsn <= lsn:
            yield self._blocks.popleft()
        self._ids = self._collect_ids()

    def beyond(self, lsn: int) -> list[Operation]:
        """What the blocks after `lsn` ask."""
        return [one for block in self._blocks if block.first_lsn > lsn for one in decode_operations(block.payload)]

    def cut(self, lsn: int) -> None:
        """Forget the blocks after `lsn`: the log ends there now."""
        self._blocks = deque(block for block in self._blocks if block.last_lsn <= lsn)
        self._ids = self._collect_ids()

    def find(self, transaction_id: str) -> Transaction | None:
        """The PENDING transaction with this id."""
        if transaction_id not in self._ids:
            return None
        for block in self._blocks:
            for lsn, one in enumerate(decode_operations(block.payload), block.first_lsn):
                if one.transaction_id == transaction_id:
                    return pending_transaction(one, lsn, block.epoch)
        return None

    def _collect_ids(self) -> set[str]:
        return {one.transaction_id for block in self._blocks for one in decode_operations(block.payload)}


def pending_transaction(one: Operation, lsn: int, epoch: int) -> Transaction:
    """What can be told of an operation without an outcome; `lsn` and `epoch` are 0 before it has a place in the log."""
    return Transaction(
        one.transaction_id,
        kind=Kind(one.kind),
        account_id=one.account_id,
        amount=one.amount,
        code=OutcomeCode.OK,
        new_balance=None,
        lsn=lsn,
        epoch=epoch,
        time_us=one.time_us,
        status=Status.PENDING,
        extra=one.extra,
    )
