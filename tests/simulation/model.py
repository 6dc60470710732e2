"""A wallet as naive as can be, which the checker holds the worlds' outcomes against.

It executes what the clients asked, in order of the lsns that it got, by rules in words of its own: nothing of the
shipped ledger is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ftwallet.ledger.holds import release_terms
from ftwallet.ledger.operations import Kind, Operation
from ftwallet.ledger.outcomes import OutcomeCode, Transaction

if TYPE_CHECKING:
    from tests.simulation.clients import Call
    from tests.simulation.holds import Part

OUTSIDE = "@world"
ON_HOLD = "@held/"

Balances = dict[str, list[tuple[int, int]]]
"""By account: lsns, and the balance from each on."""


class Came(NamedTuple):
    """What must become of a call; `leg` is the place of the move that cannot be made, `balances` those it changes.

    `figures` are those of a capture or a release: what it moved, what is captured by then, what is left.
    """

    code: OutcomeCode
    leg: int | None
    balances: dict[str, int]
    figures: tuple[int, ...] = ()


@dataclass
class Held:
    """A hold; `ended` is None while it is open, else why it is not."""

    account: str
    left: int
    expires_us: int
    captured: int = 0
    ended: OutcomeCode | None = None


@dataclass
class Wallet:
    balances: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Held] = field(default_factory=dict)

    def do(self, call: Call, time_us: int) -> Came:
        if call.part is None:
            came = attempt(self.balances, moves_of(call))
        elif call.kind is Kind.HOLD:
            came = self._hold(call, call.part, time_us)
        else:
            came = self._of_a_hold(call, call.part, time_us)
        self.balances |= came.balances
        return came

    def expire(self, hold_id: str, time_us: int) -> dict[str, int]:
        """The balances that this changes; none when the hold has ended, or its time is not over."""
        held = self.holds.get(hold_id)
        if held is None or held.ended is not None or not 0 < held.expires_us <= time_us:
            return {}
        changed = self._give_back(held, OutcomeCode.HOLD_EXPIRED).balances
        self.balances |= changed
        return changed

    def _hold(self, call: Call, part: Part, time_us: int) -> Came:
        came = attempt(self.balances, [(call.account, ON_HOLD + call.account, call.amount)])
        if came.code != OutcomeCode.OK:
            return came._replace(leg=None)
        expires_us = time_us + part.expires_in_s * 1_000_000 if part.expires_in_s else 0
        self.holds[call.transaction_id] = Held(call.account, call.amount, expires_us)
        return came

    def _of_a_hold(self, call: Call, part: Part, time_us: int) -> Came:
        held = self.holds.get(part.hold_id)
        if held is None:
            return Came(OutcomeCode.HOLD_NOT_FOUND, None, {})
        if held.ended is not None:
            return Came(held.ended, None, {})
        if 0 < held.expires_us <= time_us:
            return Came(OutcomeCode.HOLD_EXPIRED, None, {})
        if call.kind is Kind.RELEASE:
            return self._give_back(held, OutcomeCode.HOLD_RELEASED)
        if call.amount > held.left:
            return Came(OutcomeCode.OVER_HOLD, None, {})
        return self._capture(held, call.amount or held.left, part)

    def _capture(self, held: Held, amount: int, part: Part) -> Came:
        rest = held.left - amount if part.release_rest else 0
        on_hold = ON_HOLD + held.account
        came = attempt(self.balances, [(on_hold, part.target, amount), (on_hold, held.account, rest)])
        held.left -= amount + rest
        held.captured += amount
        if not held.left:
            held.ended = OutcomeCode.HOLD_CAPTURED
        return came._replace(figures=(amount, held.captured, held.left))

    def _give_back(self, held: Held, why: OutcomeCode) -> Came:
        back, held.left, held.ended = held.left, 0, why
        came = attempt(self.balances, [(ON_HOLD + held.account, held.account, back)])
        return came._replace(figures=(back, held.captured, 0))


def executed(
    settled: Iterable[tuple[Transaction, Call]], expiries: Mapping[int, Operation]
) -> tuple[Balances, list[str], list[str]]:
    """All that has its outcome, and the records of expiries by lsn.

    Returns the balances over time, each outcome that is not what it must be, in words, and the holds that are to
    expire and have not ended.
    """
    wallet = Wallet()
    after: Balances = {}
    differences: list[str] = []

    def note(lsn: int, balances: dict[str, int]) -> None:
        for account, balance in balances.items():
            after.setdefault(account, []).append((lsn, balance))

    due = sorted(expiries.items(), reverse=True)
    for done, call in sorted(settled, key=lambda pair: pair[0].lsn):
        while due and due[-1][0] < done.lsn:
            note(*_expired(wallet, *due.pop()))
        if call.group is not None and done.code != OutcomeCode.OK:
            continue  # refused with its batch: it has moved nothing
        came = wallet.do(call, done.time_us)
        if (difference := _difference(done, call, came)) is not None:
            differences.append(f"{call.transaction_id} at lsn {done.lsn} {difference}")
        note(done.lsn, came.balances)
    while due:
        note(*_expired(wallet, *due.pop()))
    still_open = [hold_id for hold_id, held in wallet.holds.items() if held.expires_us and held.ended is None]
    return after, differences, still_open


def _expired(wallet: Wallet, lsn: int, record: Operation) -> tuple[int, dict[str, int]]:
    return lsn, wallet.expire(release_terms(record.extra).hold_id, record.time_us)


def moves_of(call: Call) -> list[tuple[str, str, int]]:
    """From where, to where, how much."""
    if call.kind is Kind.DEPOSIT:
        return [(OUTSIDE, call.account, call.amount)]
    if call.kind is Kind.WITHDRAW:
        return [(call.account, OUTSIDE, call.amount)]
    return [(one.source, one.target, one.amount) for one in call.legs]


def attempt(balances: dict[str, int], moves: list[tuple[str, str, int]]) -> Came:
    """All of the moves, one after the other, or none."""
    changed: dict[str, int] = {}
    for place, (source, target, amount) in enumerate(moves):
        if source != OUTSIDE:
            balance = changed.get(source, balances.get(source))
            if balance is None:
                return Came(OutcomeCode.ACCOUNT_NOT_FOUND, place, {})
            if balance < amount:
                return Came(OutcomeCode.INSUFFICIENT_BALANCE, place, {})
            changed[source] = balance - amount
        if target != OUTSIDE:
            changed[target] = changed.get(target, balances.get(target, 0)) + amount
    return Came(OutcomeCode.OK, None, changed)


def _difference(done: Transaction, call: Call, came: Came) -> str | None:
    if done.code != came.code:
        return f"came to {OutcomeCode(done.code).name}, and by all that was done before it must be {came.code.name}"
    if call.kind is Kind.TRANSFER:
        told, expected = (done.figures, done.leg), (tuple(came.balances.values()), came.leg)
    elif call.kind in (Kind.CAPTURE, Kind.RELEASE):
        told, expected = (done.figures, done.leg), (came.figures, None)
    else:
        told, expected = ((done.new_balance,), None), (_first(came.balances), None)
    return None if told == expected else f"was told {told}, and by all that was done before it must be {expected}"


def _first(balances: dict[str, int]) -> tuple[int | None]:
    return (next(iter(balances.values()), None),)
