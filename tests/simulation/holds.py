"""What clients of the simulated world do with holds: place some that expire soon, capture, release, and race."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from ftwallet.ledger import holds
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.state import WORLD

LONGEST_S = 4
"""The longest time to expire in that is asked for, but for ever."""

_EXPIRES_IN_S = (0, 1, 1, 2, LONGEST_S)
_RACED = 4


class Part(NamedTuple):
    """What a call asks of a hold, beside an amount; of one that it places, only when that expires."""

    hold_id: str = ""
    target: str = ""
    release_rest: bool = False
    expires_in_s: int = 0


class Asked(NamedTuple):
    """A call in the making."""

    kind: Kind
    account: str
    amount: int
    part: Part


def body_of(kind: Kind, account: str, amount: int, part: Part) -> Body:
    if kind is Kind.HOLD:
        return holds.hold(account, amount, part.expires_in_s)
    if kind is Kind.CAPTURE:
        return holds.capture(part.hold_id, amount, part.target, release_rest=part.release_rest)
    return holds.release(part.hold_id)


def anything(random: Random, placed: list[str]) -> Asked:
    """A new hold, or something of one of the last, which others are after too, and which may not be there at all."""
    account = f"account-{random.randrange(3)}"
    if not placed or random.random() < 0.4:
        return Asked(Kind.HOLD, account, random.randrange(1, 80), Part(expires_in_s=random.choice(_EXPIRES_IN_S)))
    hold_id = random.choice(placed[-_RACED:])
    if random.random() < 0.3:
        return Asked(Kind.RELEASE, "", 0, Part(hold_id))
    amount, target = random.choice((0, random.randrange(1, 40))), random.choice((account, account, WORLD))
    return Asked(Kind.CAPTURE, "", amount, Part(hold_id, target, random.random() < 0.3))
