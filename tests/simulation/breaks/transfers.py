"""Rules of transfers broken: all legs take effect or none, in every replay, and once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import structs

from ftwallet.ledger import ledger
from ftwallet.ledger.kept import Kept
from ftwallet.ledger.legs import Leg, accounts_of, decode_legs, transfer
from ftwallet.ledger.operations import Kind, Operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.node import storage
from tests.simulation.breaks.breaking import Break, Patch, method
from tests.simulation.breaks.requests import execute_twice


def legs_before_a_refusal_stay() -> Patch:
    def replace(whole: Any) -> Any:
        def move(accounts: Kept[int], rules: Rules, legs: Sequence[Leg]) -> Outcome:
            for place, one in enumerate(legs):
                outcome = whole(accounts, rules, [one])
                if outcome.code != OutcomeCode.OK:
                    return structs.replace(outcome, leg=place)
            return Outcome(OutcomeCode.OK, figures=tuple(accounts[one] for one in accounts_of(legs)))

        return move

    return method(ledger, "move", replace)


def replay_the_first_leg() -> Patch:
    def replace(whole: Any) -> Any:
        def decode(payload: bytes) -> list[Operation]:
            return [_with_one_leg(one) if one.kind == Kind.TRANSFER else one for one in whole(payload)]

        return decode

    return method(storage, "decode_operations", replace)


def _with_one_leg(one: Operation) -> Operation:
    return structs.replace(one, extra=transfer(decode_legs(one.extra)[:1]).extra)


TRANSFERS = (
    Break("legs-stay", "a transfer's legs are applied even when one is refused", legs_before_a_refusal_stay),
    Break("first-leg", "only the first leg of a transfer is replayed", replay_the_first_leg, ("kill",)),
    Break(
        "transfer-twice", "a transfer is executed again on a retry", partial(execute_twice, frozenset({Kind.TRANSFER}))
    ),
)
