"""Batches on their way through a primary: ids claimed, slices in the line, one waiter, all or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.faults.injector import Injector
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import Leg, leg, transfer
from ftwallet.ledger.operations import Body, Kind, asked
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.node.batches import Batches, Standing
from ftwallet.node.line import Line, Load
from ftwallet.node.underway import Underway
from ftwallet.wallet import Answer, BatchAnswer, BatchMismatch, Movement, Unavailable

TIMEOUT_S = 5.0
OK = OutcomeCode.OK


class Pipeline:
    """A line, and blocks that are executed when a test says so."""

    def __init__(self, max_batch: int = 8, max_queue: int = 100) -> None:
        self.ledger = Ledger(Rules(), MemoryState())
        self.underway = Underway(TIMEOUT_S)
        self.line = Line(max_batch)
        self.ready = True
        self.max_queue = max_queue
        self.blocks: list[int] = []
        self.disk = asyncio.Event()  # cleared, it stalls
        self.disk.set()
        self.batches = Batches(
            self.ledger,
            self.underway,
            self.line,
            Injector(Path("nowhere")),
            standing=lambda: Standing(self.ready, 3, "paired"),
            bring_in=self._read,
            refuse=self._refuse,
            now_us=lambda: 7,
            wake=lambda: None,
        )

    async def _read(self, transaction_ids: Sequence[str]) -> None:
        await self.disk.wait()

    def _refuse(self, operations: int) -> None:
        if len(self.line) and len(self.line) + operations > self.max_queue:
            raise Unavailable("The wallet is overloaded", in_doubt=False)

    def submit(self, *movements: Movement, all_or_nothing: bool = False) -> asyncio.Task[BatchAnswer]:
        return asyncio.create_task(
            self.batches.submit(iter([movements]), len(movements), all_or_nothing=all_or_nothing)
        )

    def single(self, movement: Movement) -> asyncio.Future[Answer]:
        kind, account_id, amount, transaction_id, extra = movement
        body = Body(kind, account_id, amount, extra)
        pending = self.underway.get(transaction_id)
        if pending is None:
            pending = self.underway.add(asked(body, transaction_id, 7))
            self.line.add(pending)
        return self.underway.wait(pending, body, time.monotonic())

    def take(self) -> Load:
        """The next block gets its place in the log."""
        load = self.line.take()
        lsn = self.ledger.applied_lsn + 1
        for pending in load.transactions:
            pending.lsn, pending.epoch = lsn, 3
            lsn += 1
        for one in load.slices:
            lsn = one.recorded(lsn, 3)
        return load

    def execute(self, load: Load) -> None:
        operations = load.operations()
        first = self.ledger.applied_lsn + 1
        outcomes = self.ledger.apply(first, 3, operations)
        self.blocks.append(len(operations))
        for pending, outcome in zip(load.transactions, outcomes, strict=False):
            self.underway.answer(pending, outcome, "paired")
        for one in load.slices:
            begins = one.lsn - first
            self.underway.answer_slice(one, outcomes[begins : begins + len(one.operations)], "paired")

    async def play(self) -> None:
        """Until nothing waits."""
        for _ in range(1000):
            await asyncio.sleep(0)
            load = self.take()
            if load.operations():
                self.execute(load)

    async def done(self, *movements: Movement, all_or_nothing: bool = False) -> BatchAnswer:
        task = self.submit(*movements, all_or_nothing=all_or_nothing)
        await self.play()
        return await task


def deposit(transaction_id: str, amount: int = 1, account_id: str = "a") -> Movement:
    return Kind.DEPOSIT, account_id, amount, transaction_id, b""


def withdraw(transaction_id: str, amount: int = 1, account_id: str = "a") -> Movement:
    return Kind.WITHDRAW, account_id, amount, transaction_id, b""


def move(transaction_id: str, *legs: Leg) -> Movement:
    kind, account_id, amount, extra = transfer(legs)
    return kind, account_id, amount, transaction_id, extra


def many(count: int, word: str = "t") -> list[Movement]:
    return [deposit(f"{word}{number}") for number in range(count)]


def codes(answer: BatchAnswer) -> list[OutcomeCode]:
    return [one.transaction.code if isinstance(one, Answer) else one.code for one in answer.results]


async def test_a_batch_goes_in_slices_and_its_outcomes_keep_their_places() -> None:
    pipeline = Pipeline(max_batch=8)
    answer = await pipeline.done(*many(10), withdraw("w", 99), *many(3, "u"))
    assert codes(answer) == [OK] * 10 + [OutcomeCode.INSUFFICIENT_BALANCE] + [OK] * 3
    assert list(answer.lsns) == list(range(1, 15))
    assert (answer.lsn, answer.epoch, answer.mode) == (14, 3, "paired")
    assert max(pipeline.blocks) <= 4, "a slice is half of a block"
    assert not len(pipeline.underway)
    assert not pipeline.line


async def test_a_single_transaction_waits_for_no_more_than_a_slice() -> None:
    """It goes into the next block, however many slices wait before it."""
    pipeline = Pipeline(max_batch=8)
    task = pipeline.submit(*many(40))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(pipeline.line) == 40
    single = pipeline.single(deposit("single"))
    pipeline.execute(pipeline.take())
    assert single.done()
    assert pipeline.blocks == [5], "with one slice beside it"
    await pipeline.play()
    assert codes(await task) == [OK] * 40


async def test_singles_cannot_starve_a_batch() -> None:
    pipeline = Pipeline(max_batch=8)
    task = pipeline.submit(*many(4))
    await asyncio.sleep(0)
    singles = [pipeline.single(movement) for movement in many(50, "single")]
    pipeline.execute(pipeline.take())
    await asyncio.sleep(0)
    assert task.done() or pipeline.blocks == [8]
    await pipeline.play()
    assert codes(await task) == [OK] * 4
    assert all(single.done() for single in singles)


async def test_duplicates_inside_a_batch_are_done_once() -> None:
    pipeline = Pipeline()
    answer = await pipeline.done(deposit("t", 5), deposit("t", 5), deposit("t", 6), *many(6), deposit("t", 5))
    first, same, other, *_, last = answer.results
    assert not isinstance(first, Answer)
    assert isinstance(same, Answer)
    assert (same.replayed, same.differs, same.transaction.new_balance) == (True, None, 5)
    assert isinstance(other, Answer)
    assert other.differs == "amount"
    assert last == same
    assert pipeline.ledger.applied_lsn == 7


async def test_a_batch_again_while_it_is_under_way_waits_for_the_first() -> None:
    pipeline = Pipeline()
    movements = many(10)
    first, again = pipeline.submit(*movements), pipeline.submit(*movements)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not again.done()
    await pipeline.play()
    assert codes(await again) == codes(await first) == [OK] * 10
    assert all(isinstance(one, Answer) and one.replayed for one in (await again).results)
    assert pipeline.ledger.applied_lsn == 10


async def test_overlapping_batches_that_wait_for_each_other_both_end() -> None:
    pipeline = Pipeline()
    one, other = many(9, "x"), many(9, "y")
    tasks = [pipeline.submit(*one, *other), pipeline.submit(*other, *one)]
    await pipeline.play()
    for task in tasks:
        assert codes(await task) == [OK] * 18
    assert pipeline.ledger.balance("a") == 18


@pytest.mark.parametrize("placed", [False, True])
async def test_a_single_that_asks_for_an_id_of_a_batch_gets_its_outcome(placed: bool) -> None:
    pipeline = Pipeline()
    task = pipeline.submit(deposit("t0", 3), deposit("t1", 5))
    await asyncio.sleep(0)
    load = pipeline.take() if placed else None
    same, other = pipeline.single(deposit("t1", 5)), pipeline.single(withdraw("t1", 5))
    pipeline.execute(load or pipeline.take())
    assert (await same).transaction[5:8] == (8, 2, 3)
    assert ((await same).replayed, (await same).differs) == (True, None)
    assert (await other).differs == "type"
    assert codes(await task) == [OK, OK]


async def test_a_batch_waits_for_a_single_with_one_of_its_ids() -> None:
    pipeline = Pipeline()
    single = pipeline.single(deposit("t1", 5))
    answer = await pipeline.done(deposit("t0"), deposit("t1", 5), deposit("t1", 6))
    assert (await single).replayed is False
    known, other = answer.results[1:]
    assert isinstance(known, Answer)
    assert (known.replayed, known.differs) == (True, None)
    assert isinstance(other, Answer)
    assert other.differs == "amount"


# ---- All or nothing


async def test_a_group_is_one_record_group_in_one_block_however_long() -> None:
    pipeline = Pipeline(max_batch=8)
    answer = await pipeline.done(*many(30), all_or_nothing=True)
    assert pipeline.blocks == [31]
    assert list(answer.lsns) == list(range(2, 32))
    assert codes(answer) == [OK] * 30


async def test_a_group_that_cannot_be_done_moves_nothing_and_answers_so_again() -> None:
    pipeline = Pipeline()
    movements = [deposit("t0", 5), withdraw("t1", 6), deposit("t2")]
    first = await pipeline.done(*movements, all_or_nothing=True)
    assert codes(first) == [OutcomeCode.GROUP_REFUSED, OutcomeCode.INSUFFICIENT_BALANCE, OutcomeCode.GROUP_REFUSED]
    assert pipeline.ledger.balance("a") is None
    again = await pipeline.done(*movements, all_or_nothing=True)
    assert codes(again) == codes(first)
    assert pipeline.blocks == [4]


@pytest.mark.parametrize("turns", [0, 1, 2, 12])
async def test_a_group_again_while_it_is_under_way_waits_for_the_first(turns: int) -> None:
    pipeline = Pipeline()
    movements = many(20)
    first = pipeline.submit(*movements, all_or_nothing=True)
    for _ in range(turns):
        await asyncio.sleep(0)
    again = pipeline.submit(*movements, all_or_nothing=True)
    await pipeline.play()
    assert codes(await first) == codes(await again) == [OK] * 20
    assert pipeline.blocks == [21]


@pytest.mark.parametrize("known", [0, 11])
async def test_a_group_with_used_and_new_ids_is_not_begun(known: int) -> None:
    pipeline = Pipeline(max_batch=8)
    movements = many(12)
    await pipeline.done(movements[known])
    joined: list[asyncio.Future[Answer]] = []
    task = pipeline.submit(*movements, all_or_nothing=True)
    await asyncio.sleep(0)
    if known:  # its first slice is claimed by now
        joined.append(pipeline.single(movements[1]))
    await pipeline.play()
    with pytest.raises(BatchMismatch) as mismatch:
        await task
    assert mismatch.value.place == known
    for future in joined:
        with pytest.raises(Unavailable):
            await future
    assert not len(pipeline.underway)
    assert not pipeline.line
    assert pipeline.ledger.applied_lsn == 1
    assert codes(await pipeline.done(movements[1])) == [OK], "its ids are free"


async def test_a_used_id_among_new_ones_is_named_whatever_its_body_was() -> None:
    pipeline = Pipeline()
    await pipeline.done(deposit("old"))
    for group in ((deposit("old", 2), deposit("new")), (deposit("new"), deposit("old", 2))):
        with pytest.raises(BatchMismatch) as mismatch:
            await pipeline.done(*group, all_or_nothing=True)
        assert (group[mismatch.value.place][3], mismatch.value.differs) == ("old", None)
    with pytest.raises(BatchMismatch) as mismatch:
        await pipeline.done(deposit("old", 2), all_or_nothing=True)
    assert mismatch.value.differs == "amount"


async def test_a_group_may_hold_an_id_twice_but_not_with_two_bodies() -> None:
    pipeline = Pipeline()
    answer = await pipeline.done(deposit("t"), deposit("t"), all_or_nothing=True)
    assert codes(answer) == [OK, OK]
    with pytest.raises(BatchMismatch) as mismatch:
        await pipeline.done(deposit("u"), deposit("v"), deposit("u", 2), all_or_nothing=True)
    assert (mismatch.value.place, mismatch.value.differs) == (2, "amount")


async def test_what_was_asked_singly_and_ended_in_two_ways_is_no_group() -> None:
    pipeline = Pipeline()
    movements = [deposit("t0"), withdraw("t1", 9)]
    await pipeline.done(*movements)
    with pytest.raises(BatchMismatch):
        await pipeline.done(*movements, all_or_nothing=True)


# ---- No room, no time, no primary


@pytest.mark.parametrize("all_or_nothing", [False, True])
async def test_a_batch_without_room_is_refused_before_any_of_it_is_begun(all_or_nothing: bool) -> None:
    pipeline = Pipeline(max_queue=20)
    first = pipeline.submit(*many(15))
    await asyncio.sleep(0)
    assert len(pipeline.line) == 15, "room is kept for all of it at once"
    with pytest.raises(Unavailable) as refused:
        await pipeline.submit(*many(6, "u"), all_or_nothing=all_or_nothing)
    assert not refused.value.in_doubt
    await pipeline.play()
    assert codes(await first) == [OK] * 15
    assert pipeline.ledger.applied_lsn == 15
    assert not pipeline.line
    assert codes(await pipeline.done(*many(50, "v"))) == [OK] * 50, "an empty line takes any batch"


async def test_a_retry_needs_no_room() -> None:
    pipeline = Pipeline(max_queue=20)
    await pipeline.done(*many(15))
    other = pipeline.submit(*many(20, "u"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert codes(await pipeline.submit(*many(15))) == [OK] * 15
    await pipeline.play()
    await other


@pytest.mark.parametrize("placed", [False, True])
async def test_a_batch_out_of_time_is_told_whole(placed: bool) -> None:
    pipeline = Pipeline(max_batch=8)
    movements = many(12)
    task = pipeline.submit(*movements)
    for _ in range(20):
        await asyncio.sleep(0)
    load = pipeline.take() if placed else None
    pipeline.underway.expire(time.monotonic() + TIMEOUT_S)
    with pytest.raises(Unavailable) as out_of_time:
        await task
    assert out_of_time.value.in_doubt == placed
    if load is not None:
        pipeline.execute(load)
    await pipeline.play()
    assert pipeline.ledger.applied_lsn == (4 if placed else 0), "what had no place in the log never gets one"
    assert not len(pipeline.underway)
    assert not pipeline.line
    assert codes(await pipeline.done(*movements)) == [OK] * 12
    assert pipeline.ledger.balance("a") == 12


@pytest.mark.parametrize("all_or_nothing", [False, True])
async def test_a_batch_that_the_disk_held_up_for_too_long_is_not_begun_after_it_was_told(all_or_nothing: bool) -> None:
    pipeline = Pipeline(max_batch=8)
    pipeline.disk.clear()
    task = pipeline.submit(*many(12), all_or_nothing=all_or_nothing)
    await asyncio.sleep(0)
    pipeline.underway.expire(time.monotonic() + TIMEOUT_S)
    pipeline.disk.set()
    await pipeline.play()
    with pytest.raises(Unavailable) as out_of_time:
        await task
    assert not out_of_time.value.in_doubt
    assert pipeline.ledger.applied_lsn == 0
    assert not len(pipeline.underway)
    assert not pipeline.line


async def test_the_end_of_the_node_fails_a_batch_in_doubt() -> None:
    pipeline = Pipeline(max_batch=8)
    task = pipeline.submit(*many(12))
    for _ in range(20):
        await asyncio.sleep(0)
    pipeline.take()
    joined = pipeline.single(deposit("t0"))
    pipeline.underway.fail_all("The wallet stops")
    for waiting in (task, joined):
        with pytest.raises(Unavailable) as failed:
            await waiting
        assert failed.value.in_doubt


async def test_a_node_that_stops_takes_no_further_slice() -> None:
    pipeline = Pipeline(max_batch=8)
    task = pipeline.submit(*many(12))
    await asyncio.sleep(0)
    pipeline.ready = False
    with pytest.raises(Unavailable) as stopped:
        await task
    assert stopped.value.in_doubt
    pipeline.ready = True
    await pipeline.play()
    assert pipeline.ledger.applied_lsn == 4
    assert not pipeline.line
    assert codes(await pipeline.done(*many(12))) == [OK] * 12


ids = st.sampled_from([f"t{number}" for number in range(15)])
movements = st.tuples(
    st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW]), st.sampled_from("ab"), st.integers(1, 3), ids, st.just(b"")
)
transfers = st.builds(move, ids, st.sampled_from([leg("a", "b", 2), leg("b", "a", 1)]))


async def test_transfers_among_others_have_the_whole_transaction_for_an_answer() -> None:
    pipeline = Pipeline()
    batch = (deposit("t0", 9), move("t1", leg("a", "b", 4)), move("t2", leg("b", "a", 5)), withdraw("t3", 1, "b"))
    answer = await pipeline.done(*batch)
    assert codes(answer) == [OK, OK, OutcomeCode.INSUFFICIENT_BALANCE, OK]
    moved = answer.results[1]
    assert isinstance(moved, Answer)
    assert (moved.replayed, moved.transaction.figures, moved.transaction.lsn) == (False, (5, 4), 2)
    again = await pipeline.done(*batch)
    assert [one.replayed for one in again.results if isinstance(one, Answer)] == [True] * 4
    assert again.lsns == answer.lsns


async def test_a_group_of_transfers_is_all_or_nothing_and_sent_again_as_it_was() -> None:
    pipeline = Pipeline()
    await pipeline.done(deposit("fund", 9))
    batch = (move("t1", leg("a", "b", 4)), move("t2", leg("b", "c", 5)))
    refused = await pipeline.done(*batch, all_or_nothing=True)
    assert codes(refused) == [OutcomeCode.GROUP_REFUSED, OutcomeCode.INSUFFICIENT_BALANCE]
    assert pipeline.ledger.balance("b") is None
    with pytest.raises(BatchMismatch) as mismatch:
        await pipeline.done(batch[0], move("t2", leg("b", "c", 1)), all_or_nothing=True)
    assert (mismatch.value.place, mismatch.value.differs) == (1, "amount")
    with pytest.raises(BatchMismatch) as twice:
        await pipeline.done(move("t4", leg("a", "b", 4)), move("t4", leg("a", "c", 4)), all_or_nothing=True)
    assert twice.value.differs == "to_account_id"


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(
                st.one_of(movements, movements, transfers),
                min_size=1,
                max_size=10,
            ),
        ),
        max_size=6,
    )
)
def test_whatever_is_asked_at_once_each_id_is_done_once(batches: list[tuple[bool, list[Movement]]]) -> None:
    asyncio.run(_all_at_once(batches))


async def _all_at_once(batches: Sequence[tuple[bool, list[Movement]]]) -> None:
    pipeline = Pipeline()
    tasks = [pipeline.submit(*movements, all_or_nothing=group) for group, movements in batches]
    await pipeline.play()
    told: dict[str, tuple[OutcomeCode, int]] = {}
    for (group, movements), task in zip(batches, tasks, strict=True):
        assert task.done()
        if isinstance(task.exception(), BatchMismatch | Unavailable):
            assert group or isinstance(task.exception(), Unavailable)
            continue
        answer = await task
        for movement, code, lsn, one in zip(movements, codes(answer), answer.lsns, answer.results, strict=True):
            assert told.setdefault(movement[3], (code, lsn)) == (code, lsn), "one answer for one id"
            assert not group or not isinstance(one, Answer) or one.differs is None
        assert not group or len({code is OK for code in codes(answer)}) == 1
    assert not len(pipeline.underway)
    assert not pipeline.line
    assert pipeline.ledger.duplicates == 0
    pipeline.ledger.check()
