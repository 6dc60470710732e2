"""Expiries: a primary puts each hold's end on record soon after its time, never before, and reads what it took over."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ftwallet.api.app import Application
from ftwallet.config import Config
from ftwallet.faults.injector import Injector
from ftwallet.ledger.holds import Hold, HoldState, capture, decode_hold, hold, hold_key
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Body, Kind, Operation, asked, operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, Transaction
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState, State, Unread
from ftwallet.node import warmup
from ftwallet.node.base import base_of
from ftwallet.node.expiries import Expiries
from ftwallet.node.line import Line
from ftwallet.node.log_clock import LogClock
from ftwallet.node.outage import Outage
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import open_storage
from ftwallet.node.underway import Pending
from ftwallet.replication.register import Register
from ftwallet.wallet import Answer
from ftwallet.witness.bootstrap import ensure_cluster

SECOND = 1_000_000
NOW = 1_000 * SECOND
DONE = Transaction("", Kind.EXPIRE, "", 0, OutcomeCode.OK, None, 0, 1, 0, Status.COMMITTED)


class Primary:
    """A ledger with a clock that stands still; what is appended is executed at once."""

    def __init__(self) -> None:
        self.ledger = Ledger(Rules(), MemoryState())
        self.now = NOW
        self.takes_records = True
        self.blocks: list[int] = []
        self.reads = 0
        self.while_it_reads: Callable[[], None] = lambda: None
        self.expiries = self.new()
        self.do(Body(Kind.DEPOSIT, "alice", 1_000), "d")

    def new(self, kept: int = 100, at_once: int = 10) -> Expiries:
        self.expiries = Expiries(self.ledger, self, self, kept=kept, at_once=at_once)
        return self.expiries

    def do(self, body: Body, transaction_id: str) -> Outcome:
        return self.execute([asked(body, transaction_id, self.now)])[0]

    def execute(self, operations: list[Operation]) -> list[Outcome]:
        outcomes = self.ledger.apply(self.ledger.applied_lsn + 1, 1, operations)
        self.expiries.applied(operations)
        return list(outcomes)

    def hold(self, hold_id: str) -> Hold:
        record = self.ledger.state.record(hold_key(hold_id))
        assert record is not None
        return decode_hold(record)

    def expired(self) -> set[str]:
        known = [one.transaction_id for one in self.ledger.transactions() if one.kind is Kind.HOLD and one.success]
        return {hold_id for hold_id in known if self.hold(hold_id).state is HoldState.EXPIRED}

    def look(self) -> set[str]:
        asyncio.run(self.expiries.look())
        return self.expired()

    # ---- Log and look-ups

    def now_us(self) -> int:
        return self.now

    def append(self, operations: list[Operation]) -> list[asyncio.Future[Answer]]:
        self.blocks.append(len(operations))
        futures = []
        for outcome in self.execute(operations):
            assert outcome.code == OutcomeCode.OK
            futures.append(asyncio.get_running_loop().create_future())
            futures[-1].set_result(Answer(DONE, replayed=False, mode="solo"))
        return futures

    async def look_up(self, work: Callable[[], Any]) -> Any:
        self.reads += 1
        found = work()
        self.while_it_reads()
        return found

    async def bring_in(self, state: State, unread: Iterable[Unread]) -> None:
        raise AssertionError("all is in memory")


def test_a_hold_expires_at_its_time_and_not_before() -> None:
    primary = Primary()
    primary.look()
    primary.do(hold("alice", 100, 5), "h")
    primary.now += 5 * SECOND - 1
    assert primary.look() == set()
    primary.now += 1
    assert primary.look() == {"h"}
    assert primary.ledger.balance("alice") == 1_000


def test_what_was_placed_before_it_serves_is_read_once() -> None:
    primary = Primary()
    for number in range(5):
        primary.do(hold("alice", 10, 5 + number), f"h{number}")
    primary.do(hold("alice", 10), "for-ever")
    primary.new()
    primary.now += 7 * SECOND
    assert primary.look() == {"h0", "h1", "h2"}
    reads = primary.reads
    primary.now += 2 * SECOND
    assert primary.look() == {f"h{number}" for number in range(5)}
    assert primary.reads == reads
    assert primary.hold("for-ever").state is HoldState.OPEN


def test_a_hold_that_is_placed_while_all_is_read_is_not_missed() -> None:
    primary = Primary()
    primary.do(hold("alice", 10, 1), "before")

    def place() -> None:
        primary.while_it_reads = lambda: None
        primary.do(hold("alice", 10, 2), "meanwhile")

    primary.new()
    primary.while_it_reads = place
    primary.look()
    primary.now += 2 * SECOND
    assert primary.look() == {"before", "meanwhile"}


def test_one_that_has_ended_or_was_refused_costs_no_record() -> None:
    primary = Primary()
    primary.look()
    primary.do(hold("alice", 100, 5), "h")
    primary.do(capture("h", 0, "bob"), "c")
    assert primary.do(hold("alice", 5_000, 5), "too-much").code == OutcomeCode.INSUFFICIENT_BALANCE
    primary.now += 5 * SECOND
    assert primary.look() == set()
    assert primary.blocks == []


def test_a_block_holds_a_bounded_number() -> None:
    primary = Primary()
    primary.new(at_once=4)
    primary.look()
    for number in range(10):
        primary.do(hold("alice", 10, 5), f"h{number}")
    primary.now += 5 * SECOND
    assert len(primary.look()) == 10
    assert primary.blocks == [4, 4, 2]


@pytest.mark.parametrize("read_again", [False, True])
def test_of_more_than_are_kept_the_nearest_are_and_the_others_have_their_turn(read_again: bool) -> None:
    primary = Primary()
    primary.new(kept=3)
    primary.look()
    for number in (5, 9, 2, 8, 1, 7, 3, 6, 4, 3):
        primary.do(hold("alice", 10, number), f"h{number}-{primary.ledger.applied_lsn}")
    if read_again:
        primary.new(kept=3)
    for second in range(1, 10):
        primary.now += SECOND
        primary.look()
        primary.look()  # what was not read yet has its turn now
        assert len(primary.expiries._nearest) <= 3
        assert len(primary.expired()) == second + (second >= 3)


def test_what_is_due_waits_while_the_log_takes_no_records() -> None:
    primary = Primary()
    primary.look()
    primary.do(hold("alice", 100, 5), "h")
    primary.now += 5 * SECOND
    primary.takes_records = False
    assert primary.look() == set()
    primary.takes_records = True
    assert primary.look() == {"h"}


def test_a_line_is_waited_for_while_somebody_has_not_given_up_what_is_in_it() -> None:
    line, pending = Line(8), Pending(operation(Kind.DEPOSIT, "t", "alice", 1, NOW))
    assert not line.is_waited_for
    line.add(pending)
    assert line.is_waited_for
    pending.fail("it took too long")
    assert len(line) == 1
    assert not line.is_waited_for


# ---- The log's time


class Clocks:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_us, self.steady_s = NOW, 50.0
        monkeypatch.setattr(time, "time_ns", lambda: self.wall_us * 1_000)
        monkeypatch.setattr(time, "monotonic", lambda: self.steady_s)

    def pass_by(self, seconds: float) -> None:
        self.wall_us += int(seconds * SECOND)
        self.steady_s += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_T1_the_logs_time_is_the_wall_clocks(clocks: Clocks) -> None:
    clock = LogClock(NOW - SECOND)
    assert clock.now_us() == NOW
    clocks.pass_by(3)
    assert clock.now_us() == NOW + 3 * SECOND
    clocks.wall_us += 86_400 * SECOND
    assert clock.now_us() == NOW + 86_403 * SECOND


def test_T1_behind_the_log_time_goes_on_at_half_its_speed_until_the_wall_clock_is_level(clocks: Clocks) -> None:
    clock = LogClock(NOW + 10 * SECOND)
    assert clock.now_us() == NOW + 10 * SECOND
    told = []
    for _ in range(19):
        clocks.pass_by(1)
        told.append(clock.now_us())
    assert told == [NOW + 10 * SECOND + half * SECOND // 2 for half in range(1, 20)]
    clocks.pass_by(2)
    assert clock.now_us() == NOW + 21 * SECOND
    clocks.wall_us -= 86_400 * SECOND
    assert clock.now_us() == NOW + 21 * SECOND
    clocks.pass_by(1)
    assert clock.now_us() == NOW + 21 * SECOND + SECOND // 2


# ---- A node


class Node:
    """A primary that is alone, in this process."""

    def __init__(self, config: Config, alone: Register) -> None:
        node_dir = config.node_dir("a")
        storage = open_storage(node_dir, config.segment_bytes, base_of(node_dir, config))
        self.ports = warmup._ScratchPorts(Application(), socket.socket())
        witness, injector = warmup._NoWitness(), Injector(node_dir)
        self.node = PrimaryNode(config, storage, alone, witness, injector, Outage(), self.ports)

    async def __aenter__(self) -> Node:
        self.node._begin()
        while not self.node.status().ready:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.node.abandon()

    async def do(self, body: Body, transaction_id: str) -> Transaction:
        kind, account_id, amount, extra = body
        return (await self.node._service.submit(kind, account_id, amount, transaction_id, extra)).transaction

    async def ended(self, hold_id: str) -> Transaction:
        """What a capture is told once the record of its end is there."""
        ledger = self.node.ledger
        before = ledger.balance("alice")
        while ledger.balance("alice") == before:
            await asyncio.sleep(0.01)
        return await self.do(capture(hold_id, 0, "bob"), f"capture-{hold_id}")


@pytest.mark.parametrize("state", ["memory", "disk"])
def test_a_hold_expires_on_the_node_that_placed_it_and_on_the_one_that_follows(tmp_path: Path, state: Any) -> None:
    config = Config(data_dir=tmp_path / "d", state=state, checkpoint_records=1_000)

    made = ensure_cluster(config.data_dir)
    alone = Register(made.cluster_id, 1, "a", {"a": made.in_sync["a"]}, {"a": 1})

    async def play() -> None:
        async with asyncio.timeout(30):
            async with Node(config, alone) as first:
                await first.do(Body(Kind.DEPOSIT, "alice", 1_000), "d")
                placed = await first.do(hold("alice", 100, 1), "h1")
                await first.do(hold("alice", 50, 2), "h2")
                ended = await first.ended("h1")
                assert ended.code == OutcomeCode.HOLD_EXPIRED
                assert ended.time_us >= placed.time_us + SECOND
                first.node._checkpointer.hurry()
                await first.node._checkpointer.tick(first.node.ledger.applied_lsn)
            async with Node(config, alone) as second:
                assert (await second.ended("h2")).code == OutcomeCode.HOLD_EXPIRED
                assert second.node.ledger.balance("alice") == 1_000
                second.node.ledger.check()

    asyncio.run(play())


def test_a_hold_expires_whose_block_is_the_last_before_the_store_is_written(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "d", state="disk", checkpoint_records=1_000)
    made = ensure_cluster(config.data_dir)
    alone = Register(made.cluster_id, 1, "a", {"a": made.in_sync["a"]}, {"a": 1})

    async def play() -> None:
        async with asyncio.timeout(30), Node(config, alone) as node:
            await node.do(Body(Kind.DEPOSIT, "alice", 1_000), "d")
            while node.node._expiries._unread_from_us == 0:
                await asyncio.sleep(0.01)
            node.node._checkpointer._in_a_hurry = True
            await node.do(hold("alice", 100, 1), "h")
            assert (await node.ended("h")).code == OutcomeCode.HOLD_EXPIRED
            assert node.node.ledger.balance("alice") == 1_000

    asyncio.run(play())
