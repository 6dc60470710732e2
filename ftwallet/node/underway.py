"""The transactions under way: from their request until their outcome, each with everybody who waits for it.

One id is under way once; whoever asks again meanwhile, with whatever body, waits for the first one's outcome.
A batch has one waiter for all of its ids; only an id that somebody else asks for meanwhile gets one of its own.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable, Sequence

from ftwallet.ledger.operations import Body, Kind, Operation, group
from ftwallet.ledger.outcomes import Outcome, Status, Transaction, first_difference
from ftwallet.wallet import Answer, Unavailable


class Waiter:
    """One request that waits. The first one of an id began it; the others are told of a replay."""

    __slots__ = ("body", "deadline", "first", "future", "pending")

    def __init__(self, pending: Pending, body: Body, future: asyncio.Future[Answer], deadline: float) -> None:
        self.pending = pending
        self.body = body
        self.future = future
        self.deadline = deadline
        self.first = not pending.waiters and pending.in_slice is None
        pending.waiters.append(self)


class Pending:
    """A transaction under way. `lsn` is 0 until it has a place in the log; `given_up` when nobody waits any more.

    `in_slice` is the slice of a batch that began it, None for a transaction of its own.
    """

    __slots__ = ("epoch", "given_up", "in_slice", "lsn", "operation", "waiters")

    def __init__(self, operation: Operation, in_slice: Slice | None = None) -> None:
        self.operation = operation
        self.waiters: list[Waiter] = []
        self.lsn = 0
        self.epoch = 0
        self.given_up = False
        self.in_slice = in_slice

    def fail(self, sentence: str) -> None:
        """Tell everybody who waits that the outcome is not known; without a place in the log it never gets one."""
        self.given_up = not self.lsn
        _fail(self.waiters, sentence, in_doubt=self.lsn > 0)


class Batch:
    """All slices of one batch, and the one who waits for them.

    `future` is done when no further slice comes (`close`) and all are answered; or fails, for good, when the outcome
    of any is not known.
    """

    def __init__(self, future: asyncio.Future[None], deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.slices: list[Slice] = []
        self._answered = 0
        self._closed = False

    def close(self) -> None:
        """No further slice comes."""
        self._closed = True
        self._end()

    def answered(self) -> None:
        """One more slice has its outcomes."""
        self._answered += 1
        self._end()

    def _end(self) -> None:
        if self._closed and self._answered == len(self.slices) and not self.future.done():
            self.future.set_result(None)

    def abandon(self) -> None:
        """Nobody waits any more; what has begun goes on."""
        if not self.future.cancel() and not self.future.cancelled():
            self.future.exception()  # told to the one who abandons it in other words

    def fail(self, sentence: str) -> None:
        """The outcome of a slice is not known."""
        if not self.future.done():
            self.future.set_exception(Unavailable(sentence, in_doubt=any(one.lsn for one in self.slices)))


class Slice:
    """Movements of a batch that go into one block, in order: as a group when `all_or_nothing`.

    `places` are theirs in the batch, `lsn` is that of the first of them (0 until it has one), and `outcomes` are theirs
    once they are executed.
    """

    __slots__ = (
        "_indices",
        "_joined",
        "all_or_nothing",
        "batch",
        "epoch",
        "given_up",
        "lsn",
        "operations",
        "outcomes",
        "places",
    )

    def __init__(self, batch: Batch, *, all_or_nothing: bool) -> None:
        self.batch = batch
        self.all_or_nothing = all_or_nothing
        self.operations: list[Operation] = []
        self.places: list[int] = []
        self.outcomes: Sequence[Outcome] = ()
        self.lsn = 0
        self.epoch = 0
        self.given_up = False
        self._indices: dict[str, int] = {}
        self._joined: dict[str, Pending] = {}

    @property
    def records(self) -> list[Operation]:
        """What goes into the log."""
        if not self.all_or_nothing:
            return self.operations
        return [group(len(self.operations), self.operations[0].time_us), *self.operations]

    def joined(self) -> Iterable[tuple[Pending, int]]:
        """What somebody else waits for, with its index."""
        return [(pending, self._indices[transaction_id]) for transaction_id, pending in self._joined.items()]

    def pending(self, transaction_id: str) -> Pending:
        """One of its movements, for somebody else who waits for it."""
        pending = self._joined.get(transaction_id)
        if pending is None:
            index = self._index(transaction_id)
            pending = self._joined[transaction_id] = Pending(self.operations[index], self)
            if self.lsn:
                pending.lsn, pending.epoch = self.lsn + index, self.epoch
        return pending

    def _index(self, transaction_id: str) -> int:
        if len(self._indices) < len(self.operations):  # rarely asked for, so made when it is
            self._indices = {one.transaction_id: index for index, one in enumerate(self.operations)}
        return self._indices[transaction_id]

    def recorded(self, lsn: int, epoch: int) -> int:
        """It has a place in the log, from `lsn` on; returns the lsn after it."""
        self.lsn, self.epoch = lsn + self.all_or_nothing, epoch
        for pending, index in self.joined():
            pending.lsn, pending.epoch = self.lsn + index, epoch
        return self.lsn + len(self.operations)

    def fail(self, sentence: str) -> None:
        """Tell everybody who waits that the outcome is not known; without a place in the log it never gets one."""
        self.given_up = not self.lsn
        for pending in self._joined.values():
            pending.fail(sentence)
        self.batch.fail(sentence)


class Underway:
    """All of them by id, and their waiters by deadline (one time-out for all, so the order of arrival is that)."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._new_future = asyncio.get_running_loop().create_future  # asking for the loop each time costs a system call
        self._by_id: dict[str, Pending | Slice] = {}
        self._by_deadline: deque[Waiter | Batch] = deque()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, transaction_id: str) -> Pending | None:
        """The transaction under way with this id."""
        found = self._by_id.get(transaction_id)
        return found.pending(transaction_id) if isinstance(found, Slice) else found

    @property
    def by_id(self) -> dict[str, Pending | Slice]:
        """All of them; a batch claims its ids here, one by one."""
        return self._by_id

    def add(self, operation: Operation) -> Pending:
        """Begin a transaction."""
        pending = self._by_id[operation.transaction_id] = Pending(operation)
        return pending

    def wait(self, pending: Pending, body: Body, now: float) -> asyncio.Future[Answer]:
        """Wait for its outcome, at most the time-out."""
        waiter = Waiter(pending, body, self._new_future(), now + self._timeout_s)
        self._append(waiter)
        return waiter.future

    def open_batch(self, now: float) -> Batch:
        """Begin a batch, which lasts at most the time-out."""
        batch = Batch(self._new_future(), now + self._timeout_s)
        self._append(batch)
        return batch

    def _append(self, waiter: Waiter | Batch) -> None:
        by_deadline = self._by_deadline
        while by_deadline and by_deadline[0].future.done():  # answered: nothing to keep it for
            by_deadline.popleft()
        by_deadline.append(waiter)

    def wait_for_record(self, pending: Pending) -> asyncio.Future[Answer]:
        """Wait for a record of the node's own, as long as it takes."""
        one = pending.operation
        return Waiter(pending, one.body, self._new_future(), math.inf).future

    def answer(self, pending: Pending, outcome: Outcome, mode: str) -> None:
        """The outcome is known: tell everybody who waits, and forget it here."""
        transaction_id = pending.operation.transaction_id
        if self._by_id.get(transaction_id) is pending:
            del self._by_id[transaction_id]
        _tell(pending, outcome, mode)

    def answer_slice(self, one: Slice, outcomes: Sequence[Outcome], mode: str) -> None:
        """The outcomes of a slice are known."""
        one.outcomes = outcomes
        self._forget(one)
        for pending, index in one.joined():
            _tell(pending, outcomes[index], mode)
        one.batch.answered()

    def withdraw(self, one: Slice, sentence: str) -> None:
        """A slice without a place in the log never gets one."""
        self._forget(one)
        one.fail(sentence)

    def _forget(self, one: Slice) -> None:
        by_id = self._by_id
        for movement in one.operations:
            by_id.pop(movement.transaction_id, None)

    def expire(self, now: float) -> None:
        """Give up waiting where the time-out has passed; what has no place in the log yet never gets one."""
        while self._by_deadline and (self._by_deadline[0].deadline <= now or self._by_deadline[0].future.done()):
            waiter = self._by_deadline.popleft()
            if waiter.future.done():
                continue
            if isinstance(waiter, Batch):
                self._give_up_batch(waiter)
            else:
                self._give_up(waiter)

    def fail_all(self, sentence: str) -> None:
        """The node stops: nobody is kept waiting, and what has no place in the log yet never gets one."""
        for one in list(dict.fromkeys(self._by_id.values())):
            one.fail(sentence)

    def _give_up(self, waiter: Waiter) -> None:
        pending = waiter.pending
        if pending.lsn or pending.in_slice is not None:  # its batch has a deadline of its own
            _fail([waiter], "The outcome is not known yet", in_doubt=True)
            return
        self._by_id.pop(pending.operation.transaction_id, None)
        pending.fail("The wallet could not begin the transaction in time")

    def _give_up_batch(self, batch: Batch) -> None:
        for one in batch.slices:
            if not one.lsn:
                self.withdraw(one, "The wallet could not begin all of the batch in time")
        batch.fail("The outcome is not known yet")


def _tell(pending: Pending, outcome: Outcome, mode: str) -> None:
    """Answer everybody who waits for one transaction."""
    if not pending.waiters:
        return
    transaction = transaction_of(pending.operation, outcome, pending.lsn, pending.epoch)
    for waiter in pending.waiters:
        if not waiter.future.done():
            differs = None if waiter.first else first_difference(transaction, waiter.body)
            waiter.future.set_result(Answer(transaction, not waiter.first, mode, differs))


def _fail(waiters: Iterable[Waiter], sentence: str, *, in_doubt: bool) -> None:
    error = Unavailable(sentence, in_doubt=in_doubt)
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)


def transaction_of(one: Operation, outcome: Outcome, lsn: int, epoch: int) -> Transaction:
    """An operation that has its outcome, and its place in the log."""
    return Transaction(
        one.transaction_id,
        Kind(one.kind),
        one.account_id,
        one.amount,
        outcome.code,
        outcome.new_balance,
        lsn,
        epoch,
        one.time_us,
        Status.COMMITTED,
        outcome.limit,
        one.extra,
        outcome.figures,
        outcome.leg,
    )
