"""Holds: money set aside is spent once, by a capture, or given back; and what has ended stays so."""

from __future__ import annotations

import pytest

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.holds import (
    EXPIRIES,
    HELD,
    Hold,
    HoldState,
    capture,
    decode_hold,
    expire,
    expiry_of,
    hold,
    hold_key,
    release,
)
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.needs import accounts_behind, needs
from ftwallet.ledger.operations import Body, Kind, Operation, asked, group, operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, first_difference, sentence
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD, MemoryState, checkpoint_chunks

NOW = 1_000_000
SECOND = 1_000_000
LIMIT = 1_000_000
OK = OutcomeCode.OK


class Wallet:
    """A ledger in which alice has 5,000; every call is a block of its own."""

    def __init__(self) -> None:
        self.ledger = Ledger(Rules(2, LIMIT, LIMIT), MemoryState())
        self.asked = 0
        self.now = NOW
        self.do(Body(Kind.DEPOSIT, "alice", 5_000))

    def do(self, body: Body, transaction_id: str = "") -> Outcome:
        self.asked += 1
        return self.apply(asked(body, transaction_id or f"t{self.asked}", self.now))

    def apply(self, *operations: Operation) -> Outcome:
        outcomes = self.ledger.apply(self.ledger.applied_lsn + 1, 1, operations)
        self.ledger.check()
        return outcomes[-1]

    def hold(self, hold_id: str) -> Hold:
        record = self.ledger.state.record(hold_key(hold_id))
        assert record is not None
        return decode_hold(record)

    @property
    def balances(self) -> dict[str, int]:
        """All that are not zero, held money too, but for the outside."""
        return {name: minor for name, minor in self.ledger.state.export_accounts() if minor and name != WORLD}

    @property
    def expiries(self) -> list[str]:
        return [expiry_of(key)[1] for key, _ in self.ledger.state.export_records(EXPIRIES)]


@pytest.fixture
def wallet() -> Wallet:
    return Wallet()


def test_money_on_hold_is_not_available_and_not_gone(wallet: Wallet) -> None:
    assert wallet.do(hold("alice", 3_000), "h") == Outcome(OK, 2_000)
    assert wallet.balances == {"alice": 2_000, HELD + "alice": 3_000}
    assert wallet.do(Body(Kind.WITHDRAW, "alice", 2_001)).code is OutcomeCode.INSUFFICIENT_BALANCE
    assert dict(wallet.ledger.export_accounts()) == {"alice": 2_000}
    assert wallet.hold("h") == Hold("alice", "3000", "3000", 0)


def test_what_a_hold_gives_back_may_lift_a_balance_over_all_that_an_amount_can_be() -> None:
    wallet = Wallet()
    wallet.ledger = Ledger(Rules(2, MAX_STORED, MAX_STORED), MemoryState())
    wallet.do(Body(Kind.DEPOSIT, "alice", MAX_STORED))
    wallet.do(hold("alice", MAX_STORED), "h")
    wallet.do(Body(Kind.DEPOSIT, "alice", MAX_STORED))
    wallet.do(release("h"))
    assert wallet.do(Body(Kind.WITHDRAW, "alice", 5), "w") == Outcome(OK, 2 * MAX_STORED - 5)
    found = wallet.ledger.find("w")
    assert found is not None
    assert (found.account_id, found.amount, found.new_balance, found.extra) == ("alice", 5, 2 * MAX_STORED - 5, b"")
    again = Ledger.restore(checkpoint_chunks(wallet.ledger.state))
    assert again.find("w") == found


def test_holds_never_overspend(wallet: Wallet) -> None:
    """Six holds of 1,000 on a balance of 5,000."""
    outcomes = [wallet.do(hold("alice", 1_000), f"h{number}") for number in range(6)]
    assert [outcome.code for outcome in outcomes] == [*[OK] * 5, OutcomeCode.INSUFFICIENT_BALANCE]
    captured = [wallet.do(capture(f"h{number}", 0, "shop")) for number in range(6)]
    assert [outcome.code for outcome in captured] == [*[OK] * 5, OutcomeCode.HOLD_NOT_FOUND]
    assert wallet.balances == {"shop": 5_000}


def test_holds_of_one_block_never_overspend(wallet: Wallet) -> None:
    wallet.apply(*[asked(hold("alice", 1_000), f"h{number}", NOW) for number in range(6)])
    assert wallet.balances == {HELD + "alice": 5_000}


def test_a_rejected_hold_cannot_be_captured(wallet: Wallet) -> None:
    assert wallet.do(hold("alice", 5_001), "h").code is OutcomeCode.INSUFFICIENT_BALANCE
    wallet.do(Body(Kind.DEPOSIT, "alice", 5_000))
    assert wallet.do(capture("h", 0, WORLD)).code is OutcomeCode.HOLD_NOT_FOUND
    assert wallet.do(capture("h", 1, "bob")).code is OutcomeCode.HOLD_NOT_FOUND
    assert wallet.do(release("h")).code is OutcomeCode.HOLD_NOT_FOUND
    assert wallet.do(hold("alice", 5_001), "h").code is OutcomeCode.INSUFFICIENT_BALANCE, "its id keeps the refusal"
    assert wallet.balances == {"alice": 10_000}


@pytest.mark.parametrize("kind", [Kind.DEPOSIT, Kind.WITHDRAW, Kind.TRANSFER])
def test_only_a_hold_can_be_captured(wallet: Wallet, kind: Kind) -> None:
    if kind is not Kind.TRANSFER:
        wallet.do(Body(kind, "alice", 10), "x")
    assert wallet.do(capture("x", 10, "bob")).code is OutcomeCode.HOLD_NOT_FOUND


def test_a_hold_is_captured_whole(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000), "h")
    assert wallet.do(capture("h", 0, "shop")) == Outcome(OK, figures=(3_000, 3_000, 0))
    assert wallet.balances == {"alice": 2_000, "shop": 3_000}
    assert wallet.hold("h") == Hold("alice", "3000", "0", 0, HoldState.CAPTURED, "3000")


def test_a_hold_is_captured_in_parts_until_nothing_is_left(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000), "h")
    assert wallet.do(capture("h", 1_000, "shop")) == Outcome(OK, figures=(1_000, 1_000, 2_000))
    assert wallet.do(capture("h", 2_001, "shop")) == Outcome(OutcomeCode.OVER_HOLD, limit=2_000)
    assert wallet.hold("h").state is HoldState.OPEN
    assert wallet.do(capture("h", 2_000, WORLD)) == Outcome(OK, figures=(2_000, 3_000, 0))
    assert wallet.balances == {"alice": 2_000, "shop": 1_000}
    assert wallet.hold("h").state is HoldState.CAPTURED


def test_a_capture_may_release_the_rest(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    assert wallet.do(capture("h", 1_000, "shop", release_rest=True)) == Outcome(OK, figures=(1_000, 1_000, 0))
    assert wallet.balances == {"alice": 4_000, "shop": 1_000}
    assert wallet.hold("h") == Hold("alice", "3000", "0", NOW + 60 * SECOND, HoldState.CAPTURED, "1000")
    assert wallet.expiries == []


def test_a_release_gives_back_what_is_left(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000), "h")
    wallet.do(capture("h", 1_000, "shop"))
    assert wallet.do(release("h")) == Outcome(OK, figures=(2_000, 1_000, 0))
    assert wallet.balances == {"alice": 4_000, "shop": 1_000}
    assert wallet.hold("h").state is HoldState.RELEASED


@pytest.mark.parametrize("end", ["capture", "release", "expire"])
def test_what_has_ended_stays_so_through_every_id_and_kind(wallet: Wallet, end: str) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    code = {
        "capture": OutcomeCode.HOLD_CAPTURED,
        "release": OutcomeCode.HOLD_RELEASED,
        "expire": OutcomeCode.HOLD_EXPIRED,
    }
    if end == "capture":
        wallet.do(capture("h", 0, "shop"), "c")
    elif end == "release":
        wallet.do(release("h"), "c")
    else:
        wallet.now += 60 * SECOND
        wallet.apply(expire("h", wallet.now))
    before, record = wallet.balances, wallet.hold("h")
    for body in (capture("h", 0, "shop"), capture("h", 1, WORLD), capture("h", 3_000, "bob"), release("h")):
        assert wallet.do(body).code is code[end]
    wallet.apply(expire("h", wallet.now + 10**12))
    assert wallet.do(hold("alice", 3_000, 60), "h") == Outcome(OK, 2_000), "a retry of the hold gets its answer"
    assert (wallet.balances, wallet.hold("h")) == (before, record)
    assert wallet.expiries == []


def test_a_capture_is_done_once(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000), "h")
    first = wallet.do(capture("h", 1_000, "shop"), "c")
    assert wallet.do(capture("h", 1_000, "shop"), "c") == first
    assert wallet.balances == {"alice": 2_000, HELD + "alice": 2_000, "shop": 1_000}


def test_time_is_that_of_the_log(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    assert wallet.expiries == ["h"]
    wallet.now += 60 * SECOND - 1
    assert wallet.apply(expire("h", wallet.now)) == Outcome(OK, figures=(0, 0, 0)), "too early"
    assert wallet.do(capture("h", 1, "shop")).code is OK
    wallet.now += 1
    assert wallet.do(capture("h", 1, "shop")).code is OutcomeCode.HOLD_EXPIRED, "before its expiry is on record"
    assert wallet.do(release("h")).code is OutcomeCode.HOLD_EXPIRED
    assert wallet.balances == {"alice": 2_000, HELD + "alice": 2_999, "shop": 1}
    assert wallet.apply(expire("h", wallet.now)) == Outcome(OK, figures=(2_999, 1, 0))
    assert wallet.balances == {"alice": 4_999, "shop": 1}


def test_expiries_are_in_order_of_time(wallet: Wallet) -> None:
    for hold_id, seconds in (("late", 900), ("never", 0), ("soon", 10), ("between", 60)):
        wallet.do(hold("alice", 1, seconds), hold_id)
    assert wallet.expiries == ["soon", "between", "late"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (hold("nobody", 1), OutcomeCode.ACCOUNT_NOT_FOUND),
        (hold(WORLD, 1), OutcomeCode.ACCOUNT_NOT_FOUND),
        (capture("none", 1, "bob"), OutcomeCode.HOLD_NOT_FOUND),
        (release("none"), OutcomeCode.HOLD_NOT_FOUND),
    ],
)
def test_refusals(wallet: Wallet, body: Body, code: OutcomeCode) -> None:
    assert wallet.do(body) == Outcome(code)
    assert wallet.balances == {"alice": 5_000}


def test_a_capture_over_the_limit_of_the_target_leaves_the_hold_open(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000), "h")
    wallet.do(Body(Kind.DEPOSIT, "rich", LIMIT - 1))
    assert wallet.do(capture("h", 2, "rich")) == Outcome(OutcomeCode.BALANCE_OVER_LIMIT, limit=LIMIT)
    assert wallet.do(capture("h", 1, "rich")).code is OK


def test_a_group_with_a_refused_capture_leaves_its_holds_as_they_were(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    members = [
        asked(hold("alice", 1_000), "g1", NOW),
        asked(capture("h", 0, "shop"), "g2", NOW),
        asked(capture("h", 1, "shop"), "g3", NOW),
    ]
    outcomes = wallet.ledger.apply(wallet.ledger.applied_lsn + 1, 1, [group(3, NOW), *members])
    refused = OutcomeCode.GROUP_REFUSED
    assert [outcome.code for outcome in outcomes] == [refused, refused, refused, OutcomeCode.HOLD_CAPTURED]
    assert wallet.balances == {"alice": 2_000, HELD + "alice": 3_000}
    assert wallet.hold("h").state is HoldState.OPEN
    assert wallet.ledger.state.record(hold_key("g1")) is None


def test_a_group_may_hold_and_capture(wallet: Wallet) -> None:
    members = [asked(hold("alice", 1_000), "g1", NOW), asked(capture("g1", 400, "shop", release_rest=True), "g2", NOW)]
    outcomes = wallet.ledger.apply(2, 1, [group(2, NOW), *members])
    assert [outcome.code for outcome in outcomes] == [OK] * 3
    assert wallet.balances == {"alice": 4_600, "shop": 400}


@pytest.mark.parametrize(
    ("was", "body", "differs"),
    [
        (hold("alice", 5, 60), hold("alice", 5, 60), None),
        (hold("alice", 5, 60), hold("alice", 5, 61), "expires_in"),
        (hold("alice", 5, 60), hold("alice", 6, 60), "amount"),
        (hold("alice", 5), hold("bob", 5), "account_id"),
        (capture("h", 5, "shop"), capture("i", 5, "shop"), "hold_id"),
        (capture("h", 5, "shop"), capture("h", 5, WORLD), "to_account_id"),
        (capture("h", 5, "shop"), capture("h", 5, "shop", release_rest=True), "release_rest"),
        (capture("h", 5, "shop"), capture("h", 0, "shop"), "amount"),
        (release("h"), release("i"), "hold_id"),
        (release("h"), capture("h", 0, "shop"), "type"),
    ],
)
def test_the_first_field_that_differs_is_named(wallet: Wallet, was: Body, body: Body, differs: str | None) -> None:
    wallet.do(was, "x")
    known = wallet.ledger.find("x")
    assert known is not None
    assert first_difference(known, body) == differs


def test_sentences(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    wallet.do(capture("h", 1_000, "shop"), "c")
    wallet.do(capture("h", 9_000, "shop"), "d")
    wallet.do(release("h"), "r")
    wallet.do(release("h"), "s")
    found = [wallet.ledger.find(name) for name in ("h", "c", "d", "r", "s")]
    assert [sentence(one, 2) for one in found if one] == [
        "Held 30.0",
        "Captured 10.0",
        "The hold has only 20.0 left",
        "Released 20.0",
        "The hold is released already",
    ]


def test_what_a_block_needs_grows_with_the_records_that_are_known(wallet: Wallet) -> None:
    block = [asked(capture("h", 1, "shop"), "c", NOW), expire("i", NOW), asked(hold("bob", 1), "j", NOW)]
    nothing = needs(block, lambda _: None)
    assert nothing == ({"", "shop", "bob", HELD + "bob"}, {hold_key("h"), hold_key("i")})
    wallet.do(hold("alice", 3_000), "h")
    assert needs(block, wallet.ledger.state.record)[0] == nothing[0] | {"alice", HELD + "alice"}
    assert accounts_behind([wallet.ledger.state.record(hold_key("h")), None]) == {"alice", HELD + "alice"}


def test_a_checkpoint_keeps_holds(wallet: Wallet) -> None:
    wallet.do(hold("alice", 3_000, 60), "h")
    wallet.do(hold("alice", 1_000), "i")
    again = Ledger.restore(checkpoint_chunks(wallet.ledger.state))
    assert list(again.state.export_records()) == list(wallet.ledger.state.export_records())
    assert len(list(again.state.export_records())) == 3
    assert again.apply(again.applied_lsn + 1, 1, [asked(capture("h", 0, "shop"), "c", NOW)])[0].code is OK


@pytest.mark.parametrize(
    "one",
    [
        operation(Kind.HOLD, "t", "alice", 0, NOW, hold("alice", 1).extra),
        operation(Kind.HOLD, "t", "alice", 1, NOW, b""),
        operation(Kind.CAPTURE, "t", "", 1, NOW, b"\x90"),
        operation(Kind.RELEASE, "t", "", 0, NOW, b""),
        operation(Kind.EXPIRE, "", "", 0, NOW, b"x"),
    ],
)
def test_what_no_primary_writes_stops_the_node(wallet: Wallet, one: Operation) -> None:
    with pytest.raises(BrokenInvariant, match="no primary writes"):
        wallet.apply(one)


def test_the_forms_on_disk_are_permanent() -> None:
    bodies = [hold("a", 1, 60), capture("h", 1, "b", release_rest=True), release("h")]
    assert [body.extra.hex() for body in bodies] == ["913c", "93a168a162c3", "91a168"]
    assert [(state.name, state.value) for state in HoldState] == [
        ("OPEN", 0),
        ("CAPTURED", 1),
        ("RELEASED", 2),
        ("EXPIRED", 3),
    ]
