"""Transfers: amounts that move together or not at all, each a leg from one account to another.

Either end of a leg may be `@world`, the outside, so that a top-up with its fee is one transfer too. Legs take effect
one after the other: what one brings in, the next may pay out. An account is made by the first money that comes to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.state import WORLD

MAX_LEGS: Final = 32
_LOW: Final = 2**64 - 1


class Leg(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """An amount, in minor units kept as two halves of 64 bits, from `source` to `target`."""

    source: str
    target: str
    low: Annotated[int, Meta(ge=0)]
    high: Annotated[int, Meta(ge=0)] = 0

    @property
    def amount(self) -> int:
        """Amount in minor units."""
        return self.high << 64 | self.low


def leg(source: str, target: str, amount: int) -> Leg:
    """A leg of `amount` minor units; raises ValueError when no ledger takes it."""
    if source == target:
        raise ValueError(f"a leg from {source!r} to itself moves nothing")
    if not 0 < amount <= MAX_STORED:
        raise ValueError(f"an amount of {amount} minor units does not fit the journal")
    return Leg(source, target, amount & _LOW, amount >> 64)


def transfer(legs: Sequence[Leg]) -> Body:
    """The body of a transfer with these legs, 1 to `MAX_LEGS`; raises ValueError for another number."""
    if not 1 <= len(legs) <= MAX_LEGS:
        raise ValueError(f"a transfer has 1 to {MAX_LEGS} legs, not {len(legs)}")
    return Body(Kind.TRANSFER, "", 0, _encoder.encode(legs))


def decode_legs(extra: bytes) -> list[Leg]:
    """The legs in the `extra` of a transfer; raises ValueError on anything that `transfer` does not write."""
    legs = _decoder.decode(extra)
    if not 1 <= len(legs) <= MAX_LEGS:
        raise ValueError("legs that no primary writes")
    for one in legs:
        if one.source == one.target or not one.low | one.high:
            raise ValueError("legs that no primary writes")
    return legs


def first_different_leg(recorded: bytes, asked: bytes) -> str | None:
    """Name of the first field in which two transfers differ, as a request has it, None when they are the same."""
    was, now = decode_legs(recorded), decode_legs(asked)
    if len(was) != len(now):
        return "legs"
    for place, (old, new) in enumerate(zip(was, now, strict=True)):
        for name, one, other in (
            ("from_account_id", old.source, new.source),
            ("to_account_id", old.target, new.target),
            ("amount", old.amount, new.amount),
        ):
            if one != other:
                return name if len(was) == 1 else f"legs[{place}].{name}"
    return None


def accounts_of(legs: Sequence[Leg]) -> list[str]:
    """The accounts that they touch, but for `@world`, in the order in which they are named."""
    ends = (end for one in legs for end in (one.source, one.target))
    return list(dict.fromkeys(end for end in ends if end != WORLD))


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Leg])
