"""The limits that money is held to.

They decide outcomes, so both nodes and every replay must hold the same ones: they are state of the ledger,
kept in its checkpoints, and change by an operation in the log, never by reading a configuration again.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.operations import Kind, Operation, operation

_MAX_EXPONENT: Final = 18


class Rules(NamedTuple):
    """The currency's decimals, and the greatest amount and balance in minor units.

    `max_amount` is held where requests are read, since an amount past it must not use up an id; the ledger
    itself holds `max_balance`.
    """

    exponent: int = 2
    max_amount: int = 10**18
    max_balance: int = 10**18


def require_valid(rules: Rules) -> Rules:
    """The same rules; raises ValueError when no ledger can hold them."""
    if not 0 <= rules.exponent <= _MAX_EXPONENT:
        raise ValueError(f"a currency has 0 to {_MAX_EXPONENT} decimals, not {rules.exponent}")
    if not (0 < rules.max_amount <= MAX_STORED and 0 < rules.max_balance <= MAX_STORED):
        raise ValueError(f"limits must be positive and fit 128 bits: {rules.max_amount}, {rules.max_balance}")
    return rules


def encode_rules(rules: Rules) -> bytes:
    """For the log and checkpoints; limits as decimal digits, because msgpack's integers end at 64 bits."""
    return msgspec.msgpack.encode((rules.exponent, str(rules.max_amount), str(rules.max_balance)))


def decode_rules(encoded: bytes) -> Rules:
    """Read what `encode_rules` wrote; raises ValueError on anything else."""
    exponent, max_amount, max_balance = _decoder.decode(encoded)
    return require_valid(Rules(exponent, int(max_amount), int(max_balance)))


def changed_rules(rules: Rules, time_us: int) -> Operation:
    """Put other rules into force from this record on, on both nodes and in every replay. It takes no id."""
    return operation(Kind.CHANGED_RULES, "", "", 0, time_us, encode_rules(require_valid(rules)))


_decoder: Final = msgspec.msgpack.Decoder(tuple[int, str, str])
