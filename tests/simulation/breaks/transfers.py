"""Rules of transfers broken: all legs take effect or none, in every replay, and once."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

from msgspec import structs

from ftwallet.ledger import moving
from ftwallet.ledger.legs import decode_legs, transfer
from ftwallet.ledger.operations import Kind, Operation
from ftwallet.ledger.overlay import Overlay
from ftwallet.node import storage
from tests.simulation.breaks.breaking import Break, Patch, method
from tests.simulation.breaks.requests import execute_twice


class _Through(Overlay[int]):
    """What an Overlay must not be: every change is made below at once, and stays."""

    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value)
        self.keep()


def legs_before_a_refusal_stay() -> Patch:
    return mock.patch.object(moving, "Overlay", _Through)


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
