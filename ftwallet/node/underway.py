"""The transactions under way: from their request until their outcome, each with everybody who waits for it.

One id is under way once; whoever asks again meanwhile, with whatever body, waits for the first one's outcome.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from ftwallet.ledger.operations import Body, Kind, Operation
from ftwallet.ledger.outcomes import Transaction, first_difference
from ftwallet.wallet import Answer, Unavailable


class Waiter:
    """One request that waits. The first one of an id began it; the others are told of a replay."""

    __slots__ = ("body", "deadline", "first", "future", "pending")

    def __init__(self, pending: Pending, body: Body, future: asyncio.Future[Answer], deadline: float) -> None:
        self.pending = pending
        self.body = body
        self.future = future
        self.deadline = deadline
        self.first = not pending.waiters
        pending.waiters.append(self)


class Pending:
    """A transaction under way. `lsn` is 0 until it has a place in the log; `given_up` when nobody waits any more."""

    __slots__ = ("epoch", "given_up", "lsn", "operation", "waiters")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.waiters: list[Waiter] = []
        self.lsn = 0
        self.epoch = 0
        self.given_up = False


class Underway:
    """All of them by id, and their waiters by deadline (one time-out for all, so the order of arrival is that)."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._new_future = asyncio.get_running_loop().create_future  # asking for the loop each time costs a system call
        self._by_id: dict[str, Pending] = {}
        self._by_deadline: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, transaction_id: str) -> Pending | None:
        """The transaction under way with this id."""
        return self._by_id.get(transaction_id)

    def add(self, operation: Operation) -> Pending:
        """Begin a transaction."""
        pending = self._by_id[operation.transaction_id] = Pending(operation)
        return pending

    def wait(self, pending: Pending, body: Body, now: float) -> asyncio.Future[Answer]:
        """Wait for its outcome, at most the time-out."""
        waiter = Waiter(pending, body, self._new_future(), now + self._timeout_s)
        by_deadline = self._by_deadline
        while by_deadline and by_deadline[0].future.done():  # answered: nothing to keep it for
            by_deadline.popleft()
        by_deadline.append(waiter)
        return waiter.future

    def wait_for_record(self, pending: Pending) -> asyncio.Future[Answer]:
        """Wait for a record of the node's own, as long as it takes."""
        one = pending.operation
        return Waiter(pending, Body(Kind(one.kind), one.account_id, one.amount), self._new_future(), math.inf).future

    def answer(self, pending: Pending, transaction: Transaction, mode: str) -> None:
        """The outcome is known: tell everybody who waits, and forget it here."""
        transaction_id = pending.operation.transaction_id
        if self._by_id.get(transaction_id) is pending:
            del self._by_id[transaction_id]
        for waiter in pending.waiters:
            if not waiter.future.done():
                differs = None if waiter.first else first_difference(transaction, waiter.body)
                waiter.future.set_result(Answer(transaction, not waiter.first, mode, differs))

    def expire(self, now: float) -> None:
        """Give up waiting where the time-out has passed; what has no place in the log yet never gets one."""
        while self._by_deadline and (self._by_deadline[0].deadline <= now or self._by_deadline[0].future.done()):
            waiter = self._by_deadline.popleft()
            if not waiter.future.done():
                self._give_up(waiter)

    def fail_all(self, sentence: str) -> None:
        """The node stops: nobody is kept waiting, and what has no place in the log yet never gets one."""
        for pending in list(self._by_id.values()):
            pending.given_up = not pending.lsn
            _fail(pending.waiters, pending, sentence)

    def _give_up(self, waiter: Waiter) -> None:
        pending = waiter.pending
        if pending.lsn:
            _fail([waiter], pending, "The outcome is not known yet")
            return
        pending.given_up = True
        self._by_id.pop(pending.operation.transaction_id, None)
        _fail(pending.waiters, pending, "The wallet could not begin the transaction in time")


def _fail(waiters: Iterable[Waiter], pending: Pending, sentence: str) -> None:
    error = Unavailable(sentence, in_doubt=pending.lsn > 0)
    for waiter in waiters:
        if not waiter.future.done():
            waiter.future.set_exception(error)
