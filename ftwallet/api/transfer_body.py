"""The body of a transfer: one leg spelled out, or several in an array.

    {"from_account_id": "alice", "to_account_id": "bob", "amount": 12.5, "transaction_id": "…"}
    {"legs": [{"from_account_id": "alice", "to_account_id": "shop", "amount": "100"}, …], "transaction_id": "…"}

As in `decode.py` there are two ways: the fast one only ever says yes; the slow one is the definition of what is
accepted, and says all that is wrong, field by field. An end of a leg may be `@world`, the outside of the wallet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ftwallet.api.decode import (
    NAME_QUOTES,
    TEXT_QUOTES,
    AmountRefused,
    FieldError,
    JsonObject,
    Malformed,
    check_id,
    check_transaction_id,
    parse_object,
    read_amount,
    split_fields,
    take_amount,
    take_transaction_id,
)
from ftwallet.ledger.identifiers import account_id_problem
from ftwallet.ledger.legs import MAX_LEGS, Leg, leg, transfer
from ftwallet.ledger.money import AmountError
from ftwallet.ledger.operations import Body
from ftwallet.ledger.state import WORLD

if TYPE_CHECKING:
    from ftwallet.ledger.rules import Rules

LEG_FIELDS: Final = ("from_account_id", "to_account_id", "amount")
_FIELDS: Final = (*LEG_FIELDS, "legs", "transaction_id")
_LEG_QUOTES: Final = NAME_QUOTES + 2 * TEXT_QUOTES


def decode_transfer(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a transfer and its transaction id; `key` is the Idempotency-Key. Raises Malformed or AmountRefused."""
    return decode_transfer_fast(body, key, rules) or decode_transfer_slowly(body, key, rules)


def end_problem(account_id: str) -> str | None:
    """Return what is wrong with an end of a leg as the end of a sentence, or None."""
    if account_id == WORLD:
        return None
    problem = account_id_problem(account_id)
    return f"{problem}; only {WORLD}, the outside, may stand here" if account_id.startswith("@") else problem


# The fast way; why quotation marks are counted is said in `decode.py`.


class _Leg(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    from_account_id: str
    to_account_id: str
    amount: msgspec.Raw


class _Single(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    from_account_id: str
    to_account_id: str
    amount: msgspec.Raw
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


class _Several(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    legs: list[_Leg]
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


_decode_single: Final = msgspec.json.Decoder(_Single).decode
_decode_several: Final = msgspec.json.Decoder(_Several).decode


def decode_transfer_fast(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str] | None:
    """Read a transfer that is right in every respect; None says nothing but that the slow way must look at it."""
    try:
        if b'"legs"' in body:
            several = _decode_several(body)
            asked: Sequence[_Leg | _Single] = several.legs
            quotes, transaction_id = NAME_QUOTES, several.transaction_id
        else:
            single = _decode_single(body)
            asked, quotes, transaction_id = (single,), 0, single.transaction_id
        legs: list[Leg] = []
        for one in asked:
            amount, around = take_amount(one.amount, rules)
            quotes += _LEG_QUOTES + around
            if end_problem(one.from_account_id) or end_problem(one.to_account_id):
                return None
            legs.append(leg(one.from_account_id, one.to_account_id, amount))
        asks = transfer(legs)
    except (ValueError, RecursionError, AmountError):
        return None
    taken = take_transaction_id(body, transaction_id, key, quotes)
    return (asks, taken) if taken else None


# The slow way: the definition of what is accepted.


def decode_transfer_slowly(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a transfer and say all that is wrong with it. Raises Malformed or AmountRefused."""
    return read_transfer(parse_object(body), key, rules)


def read_transfer(members: JsonObject, key: str | None, rules: Rules, beside: Sequence[str] = ()) -> tuple[Body, str]:
    """Read the members of a transfer, among which those named in `beside` are somebody else's.

    Raises Malformed or AmountRefused.
    """
    several = any(name == "legs" for name, _ in members)
    needed = ("legs",) if several else LEG_FIELDS
    needed = needed if key is not None else (*needed, "transaction_id")
    fields, errors = split_fields(members, (*beside, *_FIELDS), needed)
    check_transaction_id(errors, fields, key)
    if several:
        errors += [
            FieldError(name, "stands beside legs: give one or the other") for name in LEG_FIELDS if name in fields
        ]
        legs = _several_legs(errors, fields.get("legs"), rules) if "legs" in fields else []
    else:
        legs = [_one_leg(errors, fields, "", rules)]
    if errors:
        raise Malformed(errors)
    transaction_id = str(fields.get("transaction_id", key))
    for place, one in enumerate(legs):
        if isinstance(one, AmountError):
            raise AmountRefused(one, transaction_id, f"legs[{place}].amount" if several else "amount")
    return transfer([one for one in legs if isinstance(one, Leg)]), transaction_id


def _several_legs(errors: list[FieldError], value: object, rules: Rules) -> list[Leg | AmountError | None]:
    if not isinstance(value, list) or isinstance(value, JsonObject):
        errors.append(FieldError("legs", "must be an array"))
        return []
    if not 1 <= len(value) <= MAX_LEGS:
        errors.append(FieldError("legs", f"must hold 1 to {MAX_LEGS} legs, and holds {len(value)}"))
        return []
    legs = []
    for place, one in enumerate(value):
        if isinstance(one, JsonObject):
            fields, wrong = split_fields(one, LEG_FIELDS, LEG_FIELDS)
            errors += [FieldError(f"legs[{place}].{name}", detail) for name, detail in wrong]
            legs.append(_one_leg(errors, fields, f"legs[{place}].", rules))
        else:
            errors.append(FieldError(f"legs[{place}]", "must be a JSON object"))
    return legs


def _one_leg(errors: list[FieldError], fields: dict[str, object], where: str, rules: Rules) -> Leg | AmountError | None:
    """The leg that these fields are, or the rule that its amount breaks; what is malformed goes to `errors`."""
    before = len(errors)
    ends = [fields.get(name) for name in LEG_FIELDS[:2]]
    for name, end in zip(LEG_FIELDS[:2], ends, strict=True):
        if name in fields:
            check_id(errors, where + name, end, end_problem)
    if len(errors) == before and None not in ends and ends[0] == ends[1]:
        errors.append(FieldError(f"{where}to_account_id", "must differ from from_account_id"))
    amount = read_amount(errors, fields, rules, where)
    if isinstance(amount, AmountError):
        return AmountError(amount.code, f"{amount.detail} ({where[:-1]})") if where else amount
    return None if len(errors) > before or not amount or None in ends else leg(str(ends[0]), str(ends[1]), amount)
