"""A ledger over a table is a ledger in memory, whatever is written, read, lost or begun anew in between."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftwallet.errors import BrokenInvariant, Refused
from ftwallet.journal.checkpoints import CheckpointMeta
from ftwallet.ledger.holds import EXPIRIES, HELD, capture, expire, hold, release
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.operations import Kind, Operation, asked, group, operation, rolled_back
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState, Unread, checkpoint_chunks
from ftwallet.store import state
from ftwallet.store.known import Known
from ftwallet.store.state import StoreState, described, table_chunks
from ftwallet.store.table import Table, account_key, transaction_key

RULES = Rules(2, 2**128 - 1, 2**70)
ACCOUNTS = ["a", "b", "@world", "long" * 20]

accounts = st.sampled_from(ACCOUNTS)
ids = st.text("xyz", min_size=1, max_size=2)
amounts = st.one_of(st.integers(1, 9), st.integers(2**64, 2**71))
times = st.integers(0, 9)
movements = st.builds(
    operation, st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW]), ids, accounts, amounts, st.integers(0, 9)
)
ends = st.lists(accounts, min_size=2, max_size=2, unique=True)
legs = st.builds(lambda both, amount: leg(*both, amount), ends, amounts)
transfers = st.builds(asked, st.lists(legs, min_size=1, max_size=3).map(transfer), ids, times)
HOLDS = st.sampled_from("xyz")
holds = st.builds(
    asked, st.builds(hold, st.sampled_from(["a", "b"]), st.integers(1, 9), st.sampled_from([0, 0, 2])), HOLDS, times
)
uses = st.one_of(
    st.builds(capture, HOLDS, st.integers(0, 9), accounts, release_rest=st.booleans()), st.builds(release, HOLDS)
)
of_holds = st.one_of(holds, st.builds(asked, uses, st.text("xyz", min_size=2, max_size=3), times))
payments = st.one_of(movements, transfers, of_holds)
rollbacks = st.builds(rolled_back, ids, st.none() | payments, st.just(9))
expiries = st.builds(expire, HOLDS, st.sampled_from([0, 2_000_000]))
FUNDS = [operation(Kind.DEPOSIT, f"to {name}", name, 50, 0) for name in ("a", "b")]
blocks = st.lists(st.one_of(payments, payments, payments, rollbacks, expiries), min_size=1, max_size=5)
groups = st.lists(payments, min_size=1, max_size=5).map(lambda members: [group(len(members), 9), *members])
STEPS = ["freeze", "write", "written", "settle", "settle", "settle", "crash", "thaw", "look"]
"""`settle` writes all there is."""

Step = list[Operation] | tuple[list[Operation], list[Operation]] | str
"""A block, two of which the second is prepared before the first is executed, or what becomes of the table."""

steps = st.lists(
    st.one_of(blocks, blocks, st.tuples(blocks, blocks), groups, st.sampled_from(STEPS)),
    max_size=30,
)


class Disk:
    """A table, and what replays it: the blocks that were applied, as a journal has them."""

    def __init__(self, directory: Path, cached_accounts: int) -> None:
        self.directory = directory
        self.cached_accounts = cached_accounts
        self.log: list[list[Operation]] = []
        self.table = Table(directory)
        self.known = Known(first_keys=4)
        self.begin()

    def begin(self) -> None:
        """As a start does: from what the table has, and the blocks after it."""
        description = self.table.description
        standing = described(description)[1] if description else None
        self.state = StoreState(self.table, self.known, standing, self.cached_accounts)
        self.ledger = Ledger(RULES, self.state)
        self.is_frozen = self.is_written = False
        self.frozen_lsn = 0
        for block in self.log:
            if self.ledger.applied_lsn < self.lsn_after(block):
                self.ledger.apply(self.ledger.applied_lsn + 1, 1, block)

    def lsn_after(self, block: list[Operation]) -> int:
        total = 0
        for one in self.log:
            total += len(one)
            if one is block:
                break
        return total

    def apply(self, block: list[Operation]) -> list[object]:
        self.log.append(block)
        return list(self.ledger.apply(self.ledger.applied_lsn + 1, 1, block))

    def prepare(self, block: list[Operation], new: bool) -> None:
        unread = self.state.prepare(block, new=new)
        while unread and not self.state.take(self.state.fetch(unread)):
            pass

    def step(self, name: str) -> None:
        if name == "freeze" and not self.is_frozen and self.ledger.applied_lsn:
            self.state.freeze()
            self.is_frozen, self.meta = True, meta_of(self.ledger)
        elif name == "write" and self.is_frozen and not self.is_written:
            self.state.write(self.meta)
            self.is_written = True
        elif name == "written" and self.is_written:
            self.state.written()
            self.is_frozen = self.is_written = False
        elif name == "settle":
            for step in ("freeze", "write", "written"):
                self.step(step)
        elif name == "thaw" and self.is_frozen:
            self.state.thaw()
            self.is_frozen = self.is_written = False
        elif name == "crash":
            self.begin()


def meta_of(ledger: Ledger) -> CheckpointMeta:
    return CheckpointMeta(ledger.applied_lsn, 1, bytes(32), ledger.digest, [(1, ledger.applied_lsn)])


def contents(ledger: Ledger) -> tuple[object, ...]:
    transactions = sorted(ledger.transactions(), key=lambda one: one.transaction_id)
    state = ledger.state
    balances, records = dict(state.export_accounts()), list(state.export_records())
    return ledger.applied_lsn, ledger.digest, ledger.time_us, balances, records, transactions


@settings(deadline=None)  # each example opens a table
@given(steps, st.booleans(), st.sampled_from([0, 1, 100]))
def test_it_is_a_ledger_in_memory(history: list[Step], prepared: bool, cached: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        disk, memory = Disk(Path(directory) / "t", cached), Ledger(RULES, MemoryState())
        for step in [FUNDS, *history]:
            if not isinstance(step, str):
                together = [list(block) for block in (step if isinstance(step, tuple) else (step,))]
                for block in together if prepared else ():
                    disk.prepare(block, new=False)
                for block in together:
                    assert disk.apply(block) == memory.apply(memory.applied_lsn + 1, 1, block)
            elif step == "look":
                assert [disk.ledger.balance(one) for one in ACCOUNTS] == [memory.balance(one) for one in ACCOUNTS]
                assert disk.ledger.find("x") == memory.find("x")
                assert list(disk.state.export_records(EXPIRIES)) == list(memory.state.export_records(EXPIRIES))
                assert disk.state.transactions_of({"x", "never"}) == memory.state.transactions_of({"x", "never"})
            else:
                disk.step(step)
        assert contents(disk.ledger) == contents(memory)
        disk.begin()
        assert contents(disk.ledger) == contents(memory)
        disk.table.close()


HELD_ALREADY = asked(hold("a", 7), "x", 0)
USES = [
    [asked(capture("x", 0, "b"), "c", 0)],
    [asked(capture("x", 2, "b", release_rest=True), "c", 0)],
    [asked(release("x"), "c", 0)],
    [asked(hold("a", 5), "y", 0)],
    [asked(transfer([leg("a", "b", 9), leg("b", "long" * 20, 59)]), "c", 0)],
]


@pytest.mark.parametrize("block", USES, ids=["capture", "a part", "release", "another hold", "transfer"])
@pytest.mark.parametrize("when", ["not prepared", "prepared", "prepared before the hold"])
def test_what_a_block_touches_is_brought_in_from_the_table(tmp_path: Path, block: list[Operation], when: str) -> None:
    disk, memory = Disk(tmp_path / "t", cached_accounts=0), Ledger(RULES, MemoryState())
    before = [FUNDS, [HELD_ALREADY]]
    for one in before[: 1 if when == "prepared before the hold" else 2]:
        assert disk.apply(one) == memory.apply(memory.applied_lsn + 1, 1, one)
    disk.step("settle")
    if when != "not prepared":
        disk.prepare(block, new=True)
    if when == "prepared before the hold":
        assert disk.apply(before[1]) == memory.apply(memory.applied_lsn + 1, 1, before[1])
        disk.step("settle")
    assert disk.apply(block) == memory.apply(memory.applied_lsn + 1, 1, block)
    assert contents(disk.ledger) == contents(memory)
    disk.begin()
    assert contents(disk.ledger) == contents(memory)
    disk.table.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "t", 10)
    yield disk
    disk.table.close()


def deposit(transaction_id: str, account_id: str = "ann", amount: int = 5) -> Operation:
    return operation(Kind.DEPOSIT, transaction_id, account_id, amount, 1)


def written(disk: Disk, *operations: Operation) -> None:
    disk.apply(list(operations))
    for step in ("freeze", "write", "written"):
        disk.step(step)


def test_what_is_not_there_is_told_without_the_disk(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    written(disk, deposit("known"))
    monkeypatch.setattr(disk.state, "fetch", None)
    assert disk.state.prepare([deposit("new", "bob")], new=False) == Unread()
    assert disk.ledger.find("never") is None
    assert disk.ledger.balance("nobody") is None


def test_what_is_on_disk_has_to_be_read_before_it_is_needed(disk: Disk) -> None:
    written(disk, deposit("known"))
    disk.begin()
    assert disk.state.prepare([deposit("known", "ann")], new=False) == Unread(["ann"], ["known"], [])
    assert disk.state.prepare([deposit("known", "ann")], new=True) == Unread(["ann"], [], [])
    assert disk.state.prepare([rolled_back("known", None, 1)], new=True) == Unread([], ["known"], [])


def test_what_was_read_before_a_write_is_not_believed_after_it(disk: Disk) -> None:
    written(disk, deposit("t1"))
    disk.begin()
    found = disk.state.fetch(Unread(["ann"], ["t1"]))
    written(disk, deposit("t2"))
    assert not disk.state.take(found)
    assert disk.ledger.balance("ann") == 10


def test_a_block_that_is_prepared_keeps_what_it_needs_over_a_freeze(disk: Disk) -> None:
    written(disk, deposit("t1"))
    disk.begin()
    block = [deposit("t1"), deposit("t2")]
    disk.state.take(disk.state.fetch(disk.state.prepare(block, new=False)))
    disk.state.freeze()
    disk.ledger.apply(2, 1, block)
    assert (disk.ledger.duplicates, disk.ledger.balance("ann")) == (1, 10)


@pytest.mark.parametrize("act", ["freeze", "write"])
def test_one_write_at_a_time(disk: Disk, act: str) -> None:
    disk.apply([deposit("t1")])
    if act == "freeze":
        disk.state.freeze()
    with pytest.raises(BrokenInvariant):
        disk.state.freeze() if act == "freeze" else disk.state.write(meta_of(disk.ledger))


def moved(transaction_id: str, *legs: tuple[str, str, int]) -> Operation:
    return asked(transfer([leg(*one) for one in legs]), transaction_id, 1)


def test_the_accounts_of_all_legs_are_read_before_a_transfer_needs_them(disk: Disk) -> None:
    written(disk, deposit("t1", "ann", 9), deposit("t2", "bob", 9))
    disk.begin()
    legs = [("ann", "bob", 4), ("bob", "@world", 1), ("bob", "new", 2)]
    unread = disk.state.prepare([moved("t3", *legs)], new=True)
    assert (sorted(unread.accounts), unread.transactions) == (["ann", "bob"], [])


@pytest.mark.parametrize("at_hand", [[], ["ann"], ["bob"], ["ann", "bob"]])
def test_a_transfer_between_accounts_that_were_evicted(disk: Disk, at_hand: list[str]) -> None:
    disk.cached_accounts = 0
    disk.begin()
    written(disk, deposit("t1", "ann", 9), deposit("t2", "bob", 9))
    assert not disk.state._clean
    for account_id in at_hand:
        disk.ledger.balance(account_id)
    block = [moved("t3", ("ann", "bob", 4)), moved("t4", ("bob", "ann", 14))]
    disk.prepare(block, new=True)
    outcomes = disk.apply(block)
    assert outcomes == [
        Outcome(OutcomeCode.OK, figures=(5, 13)),
        Outcome(OutcomeCode.INSUFFICIENT_BALANCE, leg=0),
    ]
    for step in ("freeze", "write", "written"):
        disk.step(step)
    disk.begin()
    assert [disk.ledger.balance(one) for one in ("ann", "bob", "@world")] == [5, 13, -18]
    found = [disk.ledger.find(one) for one in ("t3", "t4")]
    assert [(one.figures, one.leg) for one in found if one] == [((5, 13), None), ((), 0)]


def test_balances_in_memory_are_bounded(disk: Disk) -> None:
    written(disk, *(deposit(f"t{number}", f"account{number}") for number in range(50)))
    assert len(disk.state._clean) == 10
    assert [disk.ledger.balance(f"account{number}") for number in range(50)] == [5] * 50


async def test_accounts_are_in_memory_soon_after_a_start_and_never_older_than_the_table(disk: Disk) -> None:
    written(disk, *(deposit(f"t{number}", f"account{number}") for number in range(9)))
    disk.begin()
    early = disk.state.page("")
    written(disk, deposit("later", "account3"))
    assert not disk.state.take(early)
    found = disk.state.page("")
    assert disk.state.take(found)
    assert found.accounts == {"@world": -50} | {f"account{number}": 10 if number == 3 else 5 for number in range(9)}
    assert disk.state.page(max(found.accounts)).accounts == {}
    disk.state.fetch = None  # type: ignore[method-assign, assignment]
    assert [disk.ledger.balance(f"account{number}") for number in range(9)] == [5, 5, 5, 10, 5, 5, 5, 5, 5]


def test_a_write_that_breaks_off_leaves_nothing_that_counts(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    written(disk, deposit("t1"))
    disk.apply([deposit("t2")])
    disk.step("freeze")

    def broken(*_: object) -> None:
        disk.table._db.flush(True)  # as if RocksDB had to make room in the middle
        raise InterruptedError

    monkeypatch.setattr(disk.table, "finish", broken)
    with pytest.raises(InterruptedError):
        disk.step("write")
    monkeypatch.undo()
    disk.table.close()
    disk.table = Table(disk.directory)
    assert disk.table.description == b""
    assert list(disk.table.all_accounts()) == []


def test_a_checkpoint_goes_from_table_to_table(disk: Disk, tmp_path: Path) -> None:
    written(disk, deposit("t1"), deposit("t2", "bob", 2**70))
    meta, standing = described(disk.table.description)
    other = StoreState(Table(tmp_path / "other"), Known(), None, 10)
    ledger = Ledger.restore(table_chunks(disk.table, standing), other)
    other.loaded(meta)
    assert contents(ledger) == contents(disk.ledger)
    assert described(other.table.description) == (meta, standing)
    in_memory = Ledger.restore(checkpoint_chunks(other))
    assert contents(in_memory) == contents(disk.ledger)
    other.table.close()


def test_a_checkpoint_that_ends_early_leaves_an_empty_table(disk: Disk, tmp_path: Path) -> None:
    written(disk, *(deposit(f"t{number}") for number in range(3)))
    *chunks, _ = table_chunks(disk.table, described(disk.table.description)[1])
    other = StoreState(Table(tmp_path / "other"), Known(), None, 10)
    with pytest.raises(ValueError, match="ends early"):
        Ledger.restore(chunks, other)
    other.table.close()
    again = Table(tmp_path / "other")
    assert list(again.all_transactions()) == []
    again.close()


def test_a_store_from_the_future_is_refused(disk: Disk) -> None:
    written(disk, deposit("t1"))
    newer = msgspec.msgpack.decode(disk.table.description) | {"format_version": 2}
    with pytest.raises(Refused, match="format version 2, this program knows up to 1"):
        described(msgspec.msgpack.encode(newer))


# ---- Known keys


@pytest.mark.parametrize("first", [4, 1000])
def test_every_key_is_known_and_few_others(first: int, tmp_path: Path) -> None:
    known = Known(first)
    assert not known
    known.add(transaction_key(f"t{number}") for number in range(5_000))
    known.save(tmp_path / "known", 7)
    loaded = Known.load(tmp_path / "known", first)
    assert loaded is not None
    again, lsn = loaded
    assert known
    assert again
    again.add([account_key("later")])
    assert lsn == 7
    for one in (known, again):
        assert all(transaction_key(f"t{number}") in one for number in range(5_000))
        assert sum(transaction_key(f"u{number}") in one for number in range(5_000)) < 50
    assert account_key("later") in again


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"?"), lambda path: path.unlink()])
def test_known_keys_that_cannot_be_read_are_not_on_record(damage: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "known"
    Known(4).save(path, 7)
    damage(path)
    assert Known.load(path) is None


def test_known_keys_with_a_flipped_bit_are_not_on_record(tmp_path: Path) -> None:
    path = tmp_path / "known"
    Known(4).save(path, 7)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert Known.load(path) is None


def test_a_hold_and_what_an_account_has_in_all_are_read_from_disk(disk: Disk) -> None:
    disk.cached_accounts = 0
    disk.begin()
    written(disk, deposit("t1", "ann", 9), deposit("t2", "bob", 5), asked(hold("ann", 7), "x", 0))
    disk.begin()
    found = disk.ledger.hold("x")
    assert found is not None
    assert (found.account_id, found.left) == ("ann", 7)
    assert disk.ledger.hold("y") is None
    assert (disk.ledger.balance("ann"), disk.ledger.balance(HELD + "ann")) == (2, 7)
    assert dict(disk.ledger.export_accounts()) == {"ann": 2, "bob": 5}
    assert dict(disk.ledger.export_totals()) == {"ann": 9, "bob": 5}
    disk.apply([asked(release("x"), "r", 0)])
    assert dict(disk.ledger.export_totals()) == {"ann": 9, "bob": 5}
    ended = disk.ledger.hold("x")
    assert ended is not None
    assert ended.left == 0


def test_what_is_only_read_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "_MOST_READ", 10)
    disk = Disk(tmp_path / "t", 10)
    for number in range(300):
        disk.apply([deposit(f"t{number}", f"a{number}")])
    disk.step("settle")
    disk.begin()
    for number in (*range(300), 299):
        assert disk.ledger.balance(f"a{number}") == 5
        assert disk.ledger.find(f"t{number}") is not None
        assert max(len(disk.state._clean), len(disk.state._recalled)) <= 11
    everything = Unread([f"a{number}" for number in range(300)], [f"t{number}" for number in range(300)])
    assert disk.state.take(disk.state.fetch(everything))
    assert not disk.state.unread(everything.accounts, everything.transactions)
    disk.table.close()
