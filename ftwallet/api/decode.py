"""Request bodies into typed values, exactly and strictly.

What is checked, in this order: the size (before anything is parsed), the form of the JSON, its fields, the
ids, the agreement of `transaction_id` with the Idempotency-Key header, the form of the amount; all of these are 422 and
are told together, field by field. Then the rules of amounts (400), then it is the wallet's turn. So a malformed request
never uses up an id.

There are two ways through. The fast one (msgspec) only ever says yes; whatever it does not take at once goes the slow
way, which is the definition of what is accepted and says all that is wrong. Amounts are taken as text by both, and
never pass through a binary float.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ftwallet.errors import ClientError
from ftwallet.ledger.identifiers import account_id_problem, transaction_id_problem
from ftwallet.ledger.money import AmountError, AmountProblem, parse_amount

if TYPE_CHECKING:
    from ftwallet.ledger.rules import Rules

Headers = Iterable[tuple[bytes, bytes]]
"""Request headers as ASGI has them: names in lower case."""

MovementFields = tuple[str, int, str]
"""account_id, amount in minor units, transaction_id."""

IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_MOVEMENT_FIELDS: Final = ("account_id", "amount", "transaction_id")
_BALANCE_FIELDS: Final = ("account_id",)
NAME_QUOTES: Final = 2
"""Quotation marks of a field's name."""

TEXT_QUOTES: Final = 4
"""Quotation marks of a field whose value is a string."""

_MAX_UNKNOWN: Final = 8
_MAX_NAME: Final = 64


class FieldError(NamedTuple):
    """What is wrong with one field; `detail` is the rest of a sentence that begins with the field's name."""

    field: str
    detail: str


class Malformed(ClientError):
    """A request that is not well-formed: `errors`, field by field."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{field} {detail}" for field, detail in self.errors))


class AmountRefused(ClientError):
    """A well-formed request whose amount, in `field`, breaks a rule of amounts; its id is not used up."""

    def __init__(self, error: AmountError, transaction_id: str, field: str = "amount") -> None:
        super().__init__(error.detail)
        self.code = error.code
        self.detail = error.detail
        self.transaction_id = transaction_id
        self.field = field


def idempotency_key(headers: Headers) -> str | None:
    """Return the raw value of the Idempotency-Key header, None without one; raises Malformed when there are several.

    Bytes that are not UTF-8 come out as characters that no id may have, so that the check of ids refuses them.
    """
    values = [value for name, value in headers if name == b"idempotency-key"]
    if not values:
        return None
    if len(values) > 1:
        raise Malformed([FieldError(IDEMPOTENCY_KEY, "is given more than once")])
    return values[0].decode("utf-8", "surrogateescape")


def decode_movement(body: bytes, key: str | None, rules: Rules) -> MovementFields:
    """Read a deposit or a withdrawal; `key` is the Idempotency-Key. Raises Malformed or AmountRefused."""
    return decode_movement_fast(body, key, rules) or decode_movement_slowly(body, key, rules)


def decode_balance(body: bytes) -> str:
    """Read the account id of a balance request. Raises Malformed."""
    return decode_balance_fast(body) or decode_balance_slowly(body)


def decode_path_id(raw: bytes, field: str, problem_of: Callable[[str], str | None] = transaction_id_problem) -> str:
    """Read the id of a path, percent-decoded already, which an error names `field`. Raises Malformed."""
    one = raw.decode("utf-8", "surrogateescape")
    problem = problem_of(one)
    if problem:
        raise Malformed([FieldError(field, problem)])
    return one


# The fast way. msgspec silently takes the last of duplicate keys. A body without a backslash has a duplicate, or a
# string too many, exactly when it has more quotation marks than the expected keys and string values need.


class _Movement(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    account_id: str
    amount: msgspec.Raw
    transaction_id: str | msgspec.UnsetType = msgspec.UNSET


class _Balance(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    account_id: str


_decode_movement: Final = msgspec.json.Decoder(_Movement).decode
_decode_balance: Final = msgspec.json.Decoder(_Balance).decode


def decode_movement_fast(body: bytes, key: str | None, rules: Rules) -> MovementFields | None:
    """Read a movement that is right in every respect; None says nothing but that the slow way must look at it."""
    try:
        movement = _decode_movement(body)
        amount, quotes = take_amount(movement.amount, rules)
    except (ValueError, RecursionError, AmountError):
        return None
    transaction_id = take_transaction_id(body, movement.transaction_id, key, quotes + NAME_QUOTES + TEXT_QUOTES)
    if not transaction_id or account_id_problem(movement.account_id):
        return None
    return movement.account_id, amount, transaction_id


def decode_balance_fast(body: bytes) -> str | None:
    """Read a balance request that is right in every respect; None says that the slow way must look at it."""
    try:
        account_id = _decode_balance(body).account_id
    except (ValueError, RecursionError):
        return None
    if body.count(b'"') != TEXT_QUOTES or b"\\" in body or account_id_problem(account_id):
        return None
    return account_id


def take_amount(raw: msgspec.Raw, rules: Rules) -> tuple[int, int]:
    """The amount, and the quotation marks around it. Raises ValueError or AmountError."""
    text = str(raw, "ascii")
    if text[0] == '"':
        return parse_amount(text[1:-1], rules.exponent, rules.max_amount), 2
    return parse_amount(text, rules.exponent, rules.max_amount), 0


def take_transaction_id(body: bytes, asked: str | msgspec.UnsetType, key: str | None, quotes: int) -> str | None:
    """The transaction's id, when it is right and `body` has no quotation mark but its own and these `quotes`."""
    if asked is msgspec.UNSET:
        transaction_id = key or ""
    else:
        transaction_id = asked
        quotes += TEXT_QUOTES
        if key is not None and key != asked:
            return None
    if body.count(b'"') != quotes or b"\\" in body or transaction_id_problem(transaction_id):
        return None
    return transaction_id


# The slow way: the definition of what is accepted.


class _Number(str):
    """The text of a JSON number."""

    __slots__ = ()


class _Constant(str):
    """NaN, Infinity or -Infinity: Python's json reads them, JSON does not have them."""

    __slots__ = ()


class JsonObject(list[tuple[str, object]]):
    """A JSON object with its fields as they were written, duplicates included."""


def decode_movement_slowly(body: bytes, key: str | None, rules: Rules) -> MovementFields:
    """Read a movement and say all that is wrong with it. Raises Malformed or AmountRefused."""
    needed = _MOVEMENT_FIELDS if key is None else _MOVEMENT_FIELDS[:-1]
    fields, errors = split_fields(parse_object(body), _MOVEMENT_FIELDS, needed)
    return _movement(fields, errors, key, rules)


def must_be_one_of(choices: Sequence[str]) -> str:
    """The end of a sentence about a value that is none of two or more choices."""
    return f"must be {', '.join(choices[:-1])} or {choices[-1]}"


def decode_operation_slowly(members: JsonObject, kinds: Sequence[str], rules: Rules) -> tuple[str, MovementFields]:
    """Read one deposit or withdrawal of a batch, which names its kind. Raises Malformed or AmountRefused."""
    known = ("kind", *_MOVEMENT_FIELDS)
    fields, errors = split_fields(members, known, known)
    kind = fields.get("kind")
    if "kind" in fields and (not isinstance(kind, str) or kind not in kinds):
        errors.append(FieldError("kind", must_be_one_of(kinds)))
    return str(kind), _movement(fields, errors, None, rules)


def _movement(fields: Mapping[str, object], errors: list[FieldError], key: str | None, rules: Rules) -> MovementFields:
    if "account_id" in fields:
        check_id(errors, "account_id", fields["account_id"], account_id_problem)
    check_transaction_id(errors, fields, key)
    amount, transaction_id = checked(errors, fields, key, read_amount(errors, fields, rules))
    return str(fields["account_id"]), amount, transaction_id


def decode_balance_slowly(body: bytes) -> str:
    """Read a balance request and say all that is wrong with it. Raises Malformed."""
    fields, errors = split_fields(parse_object(body), _BALANCE_FIELDS, _BALANCE_FIELDS)
    if "account_id" in fields:
        check_id(errors, "account_id", fields["account_id"], account_id_problem)
    if errors:
        raise Malformed(errors)
    return str(fields["account_id"])


def split_fields(
    members: JsonObject, known: Sequence[str], needed: Sequence[str]
) -> tuple[dict[str, object], list[FieldError]]:
    """Split an object into the values of known fields and what is wrong with the set of fields."""
    values: dict[str, object] = {}
    repeated: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for name, value in members:
        if name not in known:
            unknown[name] = None
        elif name in values:
            repeated[name] = None
        else:
            values[name] = value
    errors = [FieldError(name, "is missing") for name in needed if name not in values]
    errors += [FieldError(name, "is given more than once") for name in repeated]
    errors += [FieldError(_printable(name), "is not a field of this request") for name in list(unknown)[:_MAX_UNKNOWN]]
    return {name: value for name, value in values.items() if name not in repeated}, errors


def parse_object(body: bytes, whole: str = "body") -> JsonObject:
    """Read a JSON object, whose name is `whole`; its numbers stay text. Raises Malformed."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=JsonObject,
            parse_float=_Number,
            parse_int=_Number,
            parse_constant=_Constant,
        )
    except UnicodeDecodeError as error:
        raise Malformed([FieldError(whole, f"is not UTF-8 at byte {error.start}")]) from None
    except json.JSONDecodeError as error:
        detail = f"is not JSON at character {error.pos}" if body else "is empty"
        raise Malformed([FieldError(whole, detail)]) from None
    except RecursionError:
        raise Malformed([FieldError(whole, "is nested too deep")]) from None
    if not isinstance(value, JsonObject):
        raise Malformed([FieldError(whole, "must be a JSON object")])
    return value


def check_id(errors: list[FieldError], field: str, value: object, problem_of: Callable[[str], str | None]) -> None:
    """What is wrong with an id goes to `errors`."""
    is_text = isinstance(value, str) and not isinstance(value, _Number | _Constant)
    problem = problem_of(value) if is_text and isinstance(value, str) else "must be a string"
    if problem:
        errors.append(FieldError(field, problem))


def check_transaction_id(errors: list[FieldError], fields: Mapping[str, object], key: str | None) -> None:
    """What is wrong with the transaction's id, and with the Idempotency-Key `key`, goes to `errors`."""
    if "transaction_id" in fields:
        check_id(errors, "transaction_id", fields["transaction_id"], transaction_id_problem)
    if key is None:
        return
    problem = transaction_id_problem(key)
    if problem:
        errors.append(FieldError(IDEMPOTENCY_KEY, problem))
    elif fields.get("transaction_id", key) != key:
        errors.append(FieldError("transaction_id", f"differs from the {IDEMPOTENCY_KEY} header"))


def read_amount(
    errors: list[FieldError], fields: Mapping[str, object], rules: Rules, where: str = ""
) -> int | AmountError:
    """Return the amount, or the rule that it breaks; a wrong form goes to `errors`, with `where` before its name.

    It is 0 where that is wrong, and where there is no amount.
    """
    if "amount" not in fields:
        return 0
    field, value = f"{where}amount", fields["amount"]
    if isinstance(value, _Constant):
        errors.append(FieldError(field, f"must be a finite number, not {value}"))
    elif not isinstance(value, str):
        errors.append(FieldError(field, "must be a number, or a string that holds one"))
    else:
        try:
            return parse_amount(value, rules.exponent, rules.max_amount)
        except AmountError as error:
            if error.code is not AmountProblem.SYNTAX:
                return error
            errors.append(FieldError(field, "must be a decimal number, written as in JSON"))
    return 0


def read_whole(errors: list[FieldError], field: str, value: object, most: int) -> int:
    """Return a whole number from 1 to `most`, written as one; what is wrong with it goes to `errors`."""
    if isinstance(value, _Number) and value.isdecimal() and len(value) <= len(str(most)) and 1 <= int(value) <= most:
        return int(value)
    errors.append(FieldError(field, f"must be a whole number from 1 to {most}, without quotation marks"))
    return 0


def read_flag(errors: list[FieldError], field: str, value: object) -> bool:
    """Return true or false; anything else goes to `errors`."""
    if not isinstance(value, bool):
        errors.append(FieldError(field, "must be true or false"))
    return value is True


def checked(
    errors: list[FieldError], fields: Mapping[str, object], key: str | None, amount: int | AmountError
) -> tuple[int, str]:
    """Amount and transaction id, when nothing is wrong. Raises Malformed or AmountRefused."""
    if errors:
        raise Malformed(errors)
    transaction_id = str(fields.get("transaction_id", key))
    if isinstance(amount, AmountError):
        raise AmountRefused(amount, transaction_id)
    return amount, transaction_id


def _printable(name: str) -> str:
    """A field's name as the caller wrote it, made fit for an answer: lone surrogates cannot even be encoded."""
    name = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "…"
    return name if name and name.isprintable() else ascii(name)
