"""Batches on a primary: many movements of one request, each with its own id and outcome.

A batch is drawn slice by slice, and the event loop turns in between, so that nobody waits for a whole one. All ids of a
slice are claimed before it waits in the line: whoever asks for one of them from then on waits for its outcome, the same
batch included. Room for all of a batch is kept before its first movement begins, or nothing of it is begun.

All or nothing: the movements go into one slice, which becomes a group of the log; the ledger decides. The group is only
begun when none of its ids is known; when all are, their outcomes are given again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import Stage
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Body, Operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, first_difference
from ftwallet.ledger.packed import is_rolled_back
from ftwallet.node.line import Line
from ftwallet.node.tail import pending_transaction
from ftwallet.node.underway import Batch, Slice, Underway, transaction_of
from ftwallet.wallet import Answer, BatchAnswer, BatchMismatch, Movement, Unavailable

Item = TypeVar("Item")
_LOOKED_UP_AT_ONCE: Final = 256
_NOT_BEGUN: Final = "The batch that this transaction was in was not begun"
_LOW: Final = 2**64 - 1


class Standing(NamedTuple):
    """How the primary stands at the moment."""

    ready: bool
    epoch: int
    mode: str


class _Asked:
    """One batch while it is drawn: what was begun, and what was asked before (by its place)."""

    def __init__(self, batch: Batch, count: int) -> None:
        self.batch = batch
        self.count = count
        self.places = 0
        self.others: list[tuple[int, Movement]] = []
        self.reserved = 0


class Batches:
    """The way of batches into the line.

    `bring_in` has what the disk knows of ids in memory. `refuse` raises Unavailable when there is no room for so many
    operations.
    """

    def __init__(
        self,
        ledger: Ledger,
        underway: Underway,
        line: Line,
        injector: Injector,
        *,
        standing: Callable[[], Standing],
        bring_in: Callable[[Sequence[str]], Awaitable[None]],
        refuse: Callable[[int], None],
        now_us: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._underway = underway
        self._line = line
        self._injector = injector
        self._standing = standing
        self._bring_in = bring_in
        self._refuse = refuse
        self._now_us = now_us
        self._wake = wake
        self._one_group_at_a_time = asyncio.Lock()  # or a retry could find only a part of the first try's ids

    async def submit(self, slices: Iterable[Sequence[Movement]], count: int, *, all_or_nothing: bool) -> BatchAnswer:
        """See `Wallet.submit_batch`."""
        self._require_ready(begun=False)
        asked = _Asked(self._underway.open_batch(time.monotonic()), count)
        try:
            draw = self._draw_group if all_or_nothing else self._draw
            await draw(asked, slices)
        except BaseException:
            asked.batch.abandon()
            raise
        finally:
            self._line.reserve(-asked.reserved)
        asked.batch.close()
        await asked.batch.future
        return await self._answer(asked, all_or_nothing=all_or_nothing)

    # ---- Into the line

    async def _draw(self, asked: _Asked, slices: Iterable[Sequence[Movement]]) -> None:
        for movements in _cut(slices, self._line.slice_size):
            ids = [transaction_id for _, _, _, transaction_id, _ in movements]
            await self._bring_in(ids)
            if asked.batch.future.done():  # out of time, and told so: nothing more of it may begin
                return
            self._require_ready(begun=bool(asked.batch.slices))
            one = Slice(asked.batch, all_or_nothing=False)
            self._claim(asked, one, movements, ids)
            if one.operations:
                self._enqueue(asked, one)
            await asyncio.sleep(0)

    async def _draw_group(self, asked: _Asked, slices: Iterable[Sequence[Movement]]) -> None:
        whole = Slice(asked.batch, all_or_nothing=True)
        async with self._one_group_at_a_time:
            await self._claim_group(asked, whole, slices)
        if asked.batch.future.done():
            self._underway.withdraw(whole, _NOT_BEGUN)
        elif whole.operations:
            self._enqueue(asked, whole)

    async def _claim_group(self, asked: _Asked, whole: Slice, slices: Iterable[Sequence[Movement]]) -> None:
        try:
            for movements in _cut(slices, self._line.slice_size):
                ids = [transaction_id for _, _, _, transaction_id, _ in movements]
                await self._bring_in(ids)
                self._claim(asked, whole, movements, ids)
                await asyncio.sleep(0)
                self._require_ready(begun=False)
            self._require_one_group(asked, whole)
        except BaseException:
            self._underway.withdraw(whole, _NOT_BEGUN)
            raise

    def _claim(self, asked: _Asked, one: Slice, movements: Sequence[Movement], ids: Sequence[str]) -> None:
        """Take the ids that nobody has used into the slice; the others are looked at when all of the batch is done."""
        distinct = set(ids)
        known = self._ledger.state.transactions_of(distinct)
        first = asked.places
        asked.places += len(movements)
        if len(distinct) == len(ids) and not known and self._underway.by_id.keys().isdisjoint(distinct):  # as a rule
            self._begin(asked, one, movements, range(first, asked.places))
            return
        taken = {transaction_id for transaction_id, packed in known.items() if not is_rolled_back(packed)}
        taken.update(self._underway.by_id.keys() & distinct)
        fresh: list[Movement] = []
        places: list[int] = []
        for place, movement in enumerate(movements, first):
            if movement[3] in taken:
                asked.others.append((place, movement))
                continue
            taken.add(movement[3])
            fresh.append(movement)
            places.append(place)
        if fresh:
            self._begin(asked, one, fresh, places)

    def _begin(self, asked: _Asked, one: Slice, movements: Sequence[Movement], places: Sequence[int]) -> None:
        if not asked.reserved and not asked.batch.slices and not one.operations:
            self._keep_room(asked, asked.count - places[0])
        time_us = self._now_us()
        operations = [
            Operation(kind, transaction_id, account_id, amount & _LOW, amount >> 64, time_us, extra)
            for kind, account_id, amount, transaction_id, extra in movements
        ]
        self._underway.by_id.update(dict.fromkeys([movement.transaction_id for movement in operations], one))
        one.operations += operations
        one.places += places

    def _keep_room(self, asked: _Asked, operations: int) -> None:
        """Before the first movement is begun: there is room for all of them, or for none."""
        self._refuse(operations)
        asked.reserved = operations
        self._line.reserve(operations)

    def _enqueue(self, asked: _Asked, one: Slice) -> None:
        asked.batch.slices.append(one)
        asked.reserved -= len(one.operations)
        self._line.add_slice(one)
        if self._injector.armed:
            self._inject_at_the_ends([movement.transaction_id for movement in one.operations])
        self._wake()

    def _inject_at_the_ends(self, ids: Sequence[str]) -> None:
        """The stages outside of the pipeline, as of single transactions."""
        for transaction_id in ids:
            self._injector.saw_new(transaction_id)
        self._injector.reached(Stage.RECEIVED, ids)
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: self._injector.reached(Stage.REPLIED, ids))

    def _require_ready(self, *, begun: bool) -> None:
        if not self._standing().ready:
            raise Unavailable("The wallet stops" if begun else "The wallet is starting or recovering", in_doubt=True)

    def _require_one_group(self, asked: _Asked, whole: Slice) -> None:
        """An id may come twice with the same body; beyond that either all ids are new, or none is."""
        begun = self._underway.by_id
        for place, movement in asked.others:
            transaction_id = movement[3]
            if begun.get(transaction_id) is not whole:
                if whole.operations:
                    raise BatchMismatch(place, transaction_id)
                continue
            first = pending_transaction(whole.pending(transaction_id).operation, 0, 0)
            differs = first_difference(first, _body(movement))
            if differs is not None:
                raise BatchMismatch(place, transaction_id, differs)

    # ---- Out of it

    async def _answer(self, asked: _Asked, *, all_or_nothing: bool) -> BatchAnswer:
        results: list[Outcome | Answer] = [_NO_OUTCOME] * asked.places
        lsns = [0] * asked.places
        standing, lsn = self._standing(), 0
        for one in asked.batch.slices:
            _put(results, one.places, _results(one, standing.mode))
            _put(lsns, one.places, range(one.lsn, one.lsn + len(one.operations)))
            lsn = max(lsn, one.lsn + len(one.operations) - 1)
        async for place, answer in self._replays(asked.others):
            results[place] = answer
            lsns[place] = answer.transaction.lsn
            lsn = max(lsn, answer.transaction.lsn)
        if all_or_nothing and not asked.batch.slices:
            _require_one_outcome(asked.others, results)
        return BatchAnswer(results, lsns, lsn, standing.epoch, standing.mode)

    async def _replays(self, others: Sequence[tuple[int, Movement]]) -> AsyncIterator[tuple[int, Answer]]:
        """The outcomes of ids that had been asked before."""
        for at in range(0, len(others), _LOOKED_UP_AT_ONCE):
            some = others[at : at + _LOOKED_UP_AT_ONCE]
            for _, movement in some:
                await self._settled(movement)
            await self._bring_in([movement[3] for _, movement in some])
            mode = self._standing().mode
            for place, movement in some:
                known = self._ledger.find(movement[3])
                if known is None or known.status is not Status.COMMITTED:
                    raise Unavailable("The outcome of all operations is not known yet", in_doubt=True)
                yield place, Answer(known, True, mode, first_difference(known, _body(movement)))
            await asyncio.sleep(0)

    async def _settled(self, movement: Movement) -> None:
        """Wait for an id that is under way; it may come to nothing."""
        found = self._underway.by_id.get(movement[3])
        if found is None:
            return
        if isinstance(found, Slice):
            await asyncio.wait((found.batch.future,))
            return
        future = self._underway.wait(found, _body(movement), time.monotonic())
        await asyncio.wait((future,))
        future.exception()  # what came of it is looked up


_NO_OUTCOME: Final = Outcome(OutcomeCode.ROLLED_BACK)


def _body(movement: Movement) -> Body:
    kind, account_id, amount, _, extra = movement
    return Body(kind, account_id, amount, extra)


def _results(one: Slice, mode: str) -> Sequence[Outcome | Answer]:
    """Outcomes of a slice; where they alone do not tell what to answer, the whole transaction."""
    if not any(operation.extra for operation in one.operations):
        return one.outcomes
    return [
        Answer(transaction_of(operation, outcome, lsn, one.epoch), False, mode) if operation.extra else outcome
        for lsn, (operation, outcome) in enumerate(zip(one.operations, one.outcomes, strict=True), one.lsn)
    ]


def _put(whole: list[Item], places: Sequence[int], items: Sequence[Item]) -> None:
    """Each to its place; they are in a row unless something between them was asked before."""
    if places[-1] - places[0] + 1 == len(places):
        whole[places[0] : places[-1] + 1] = items
        return
    for place, item in zip(places, items, strict=True):
        whole[place] = item


def _cut(slices: Iterable[Sequence[Movement]], size: int) -> Iterator[Sequence[Movement]]:
    """No slice is longer than a block takes."""
    for movements in slices:
        for at in range(0, len(movements), size):
            yield movements[at : at + size]


def _require_one_outcome(others: Sequence[tuple[int, Movement]], results: Sequence[Outcome | Answer]) -> None:
    """What is answered as one batch was one: all done, or all refused, with these bodies."""
    done = None
    for place, movement in others:
        answer = results[place]
        if not isinstance(answer, Answer):
            continue
        if answer.differs is not None:
            raise BatchMismatch(place, movement[3], answer.differs)
        if done is None:
            done = answer.transaction.success
        elif answer.transaction.success != done:
            raise BatchMismatch(place, movement[3])
