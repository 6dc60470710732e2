"""The bodies of holds: money set aside, then captured or released.

    POST /holds               {"account_id": "alice", "amount": 30, "expires_in": 600, "transaction_id": "…"}
    POST /holds/ID/capture    {"amount": 10, "to_account_id": "shop", "release_rest": true, "transaction_id": "…"}
    POST /holds/ID/release    {"transaction_id": "…"}

As in `decode.py` there are two ways: the fast one only ever says yes; the slow one is the definition of what is
accepted, and says all that is wrong, field by field. The hold's id comes from the path, percent-decoded already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from ftwallet.api.decode import (
    NAME_QUOTES,
    TEXT_QUOTES,
    FieldError,
    JsonObject,
    check_id,
    check_transaction_id,
    checked,
    parse_object,
    read_amount,
    read_flag,
    read_whole,
    split_fields,
    take_amount,
    take_transaction_id,
)
from ftwallet.api.transfer_body import end_problem
from ftwallet.ledger.holds import MAX_EXPIRES_IN_S, capture, hold, release
from ftwallet.ledger.identifiers import account_id_problem, transaction_id_problem
from ftwallet.ledger.money import AmountError
from ftwallet.ledger.operations import Body
from ftwallet.ledger.state import WORLD

if TYPE_CHECKING:
    from ftwallet.ledger.rules import Rules

_HOLD_FIELDS: Final = ("account_id", "amount", "expires_in", "transaction_id")
_CAPTURE_FIELDS: Final = ("amount", "to_account_id", "release_rest", "transaction_id")
_RELEASE_FIELDS: Final = ("transaction_id",)


def decode_hold(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a hold and its transaction id; `key` is the Idempotency-Key. Raises Malformed or AmountRefused."""
    return decode_hold_fast(body, key, rules) or decode_hold_slowly(body, key, rules)


def decode_capture(hold_id: str, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a capture of this hold and its transaction id. Raises Malformed or AmountRefused."""
    return decode_capture_fast(hold_id, body, key, rules) or decode_capture_slowly(hold_id, body, key, rules)


def decode_release(hold_id: str, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a release of this hold and its transaction id. Raises Malformed."""
    return decode_release_fast(hold_id, body, key) or decode_release_slowly(hold_id, body, key, rules)


# The fast way; why quotation marks are counted is said in `decode.py`.


class _Hold(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    account_id: str
    amount: msgspec.Raw
    expires_in: Annotated[int, Meta(ge=1, le=MAX_EXPIRES_IN_S)] | msgspec.UnsetType = msgspec.UNSET
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


class _Capture(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    amount: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    to_account_id: str | msgspec.UnsetType = msgspec.UNSET
    release_rest: bool | msgspec.UnsetType = msgspec.UNSET
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


class _Release(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


_decode_hold: Final = msgspec.json.Decoder(_Hold).decode
_decode_capture: Final = msgspec.json.Decoder(_Capture).decode
_decode_release: Final = msgspec.json.Decoder(_Release).decode


def decode_hold_fast(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str] | None:
    """Read a hold that is right in every respect; None says nothing but that the slow way must look at it."""
    try:
        asked = _decode_hold(body)
        amount, quotes = take_amount(asked.amount, rules)
    except (ValueError, RecursionError, AmountError):
        return None
    quotes += NAME_QUOTES + TEXT_QUOTES
    expires_in_s = 0
    if asked.expires_in is not msgspec.UNSET:
        expires_in_s = asked.expires_in
        quotes += NAME_QUOTES
    transaction_id = take_transaction_id(body, asked.transaction_id, key, quotes)
    if not transaction_id or account_id_problem(asked.account_id):
        return None
    return hold(asked.account_id, amount, expires_in_s), transaction_id


def decode_capture_fast(hold_id: str, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str] | None:
    """Read a capture that is right in every respect; None says nothing but that the slow way must look at it."""
    amount, quotes, target = 0, 0, WORLD
    try:
        asked = _decode_capture(body)
        if asked.amount is not msgspec.UNSET:
            amount, quotes = take_amount(asked.amount, rules)
            quotes += NAME_QUOTES
    except (ValueError, RecursionError, AmountError):
        return None
    if asked.to_account_id is not msgspec.UNSET:
        target = asked.to_account_id
        quotes += TEXT_QUOTES
    if asked.release_rest is not msgspec.UNSET:
        quotes += NAME_QUOTES
    transaction_id = take_transaction_id(body, asked.transaction_id, key, quotes)
    if not transaction_id or end_problem(target) or transaction_id_problem(hold_id):
        return None
    return capture(hold_id, amount, target, release_rest=asked.release_rest is True), transaction_id


def decode_release_fast(hold_id: str, body: bytes, key: str | None) -> tuple[Body, str] | None:
    """Read a release that is right in every respect; None says nothing but that the slow way must look at it."""
    try:
        asked = _decode_release(body)
    except (ValueError, RecursionError):
        return None
    transaction_id = take_transaction_id(body, asked.transaction_id, key, 0)
    return (release(hold_id), transaction_id) if transaction_id and not transaction_id_problem(hold_id) else None


# The slow way: the definition of what is accepted.


def decode_hold_slowly(body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a hold and say all that is wrong with it. Raises Malformed or AmountRefused."""
    return read_hold(parse_object(body), key, rules)


def decode_capture_slowly(hold_id: str, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a capture and say all that is wrong with it. Raises Malformed or AmountRefused."""
    return read_capture(parse_object(body), key, rules, hold_id=hold_id)


def decode_release_slowly(hold_id: str, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    """Read a release and say all that is wrong with it. Raises Malformed."""
    return read_release(parse_object(body), key, rules, hold_id=hold_id)


def read_hold(members: JsonObject, key: str | None, rules: Rules, beside: Sequence[str] = ()) -> tuple[Body, str]:
    """Read the members of a hold, among which those named in `beside` are somebody else's.

    Raises Malformed or AmountRefused.
    """
    needed = ("account_id", "amount") if key is not None else ("account_id", "amount", "transaction_id")
    fields, errors = split_fields(members, (*beside, *_HOLD_FIELDS), needed)
    if "account_id" in fields:
        check_id(errors, "account_id", fields["account_id"], account_id_problem)
    check_transaction_id(errors, fields, key)
    amount = read_amount(errors, fields, rules)
    expires_in_s = 0
    if "expires_in" in fields:
        expires_in_s = read_whole(errors, "expires_in", fields["expires_in"], MAX_EXPIRES_IN_S)
    minor, transaction_id = checked(errors, fields, key, amount)
    return hold(str(fields["account_id"]), minor, expires_in_s), transaction_id


def read_capture(
    members: JsonObject, key: str | None, rules: Rules, beside: Sequence[str] = (), hold_id: str | None = None
) -> tuple[Body, str]:
    """The same of a capture; `hold_id` is None where it is one of the members."""
    fields, errors = _of_a_hold(members, key, (*beside, *_CAPTURE_FIELDS), hold_id)
    amount = read_amount(errors, fields, rules)
    if "to_account_id" in fields:
        check_id(errors, "to_account_id", fields["to_account_id"], end_problem)
    release_rest = read_flag(errors, "release_rest", fields.get("release_rest", False))
    minor, transaction_id = checked(errors, fields, key, amount)
    target = str(fields.get("to_account_id", WORLD))
    return capture(str(fields["hold_id"]), minor, target, release_rest=release_rest), transaction_id


def read_release(
    members: JsonObject, key: str | None, rules: Rules, beside: Sequence[str] = (), hold_id: str | None = None
) -> tuple[Body, str]:
    """The same of a release."""
    fields, errors = _of_a_hold(members, key, (*beside, *_RELEASE_FIELDS), hold_id)
    _, transaction_id = checked(errors, fields, key, 0)
    return release(str(fields["hold_id"])), transaction_id


def _of_a_hold(
    members: JsonObject, key: str | None, known: Sequence[str], hold_id: str | None
) -> tuple[dict[str, object], list[FieldError]]:
    """The fields, the hold's id among them, and what is wrong with them so far."""
    needed = () if key is not None else ("transaction_id",)
    if hold_id is None:
        fields, errors = split_fields(members, ("hold_id", *known), ("hold_id", *needed))
    else:
        fields, errors = split_fields(members, known, needed)
        fields["hold_id"] = hold_id
    if "hold_id" in fields:
        check_id(errors, "hold_id", fields["hold_id"], transaction_id_problem)
    check_transaction_id(errors, fields, key)
    return fields, errors
