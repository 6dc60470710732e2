"""The body of a batch into movements: all of it is parsed in one go, then checked slice by slice.

What is accepted of each operation is what `decode.py` accepts of a single call, and so is what is said of it otherwise.
As there, the fast way only ever says yes; an operation that it does not take at once is read alone, and by the slow
definition if need be. What is wrong with the body around the operations is told by what is left of it without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Annotated, Final, Literal

import msgspec

from ftwallet.api.decode import (
    NAME_QUOTES,
    TEXT_QUOTES,
    AmountRefused,
    FieldError,
    JsonObject,
    Malformed,
    decode_operation_slowly,
    must_be_one_of,
    parse_object,
    take_amount,
)
from ftwallet.api.hold_body import read_capture, read_hold, read_release
from ftwallet.api.transfer_body import read_transfer
from ftwallet.ledger.identifiers import MAX_ID_CHARACTERS, account_id_problem, transaction_id_problem
from ftwallet.ledger.money import MAX_STORED, AmountError, AmountProblem, parse_plain_amounts
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.rules import Rules
from ftwallet.wallet import MAX_BATCH_OPERATIONS, Movement

_MOVEMENTS: Final = {"deposit": Kind.DEPOSIT, "withdraw": Kind.WITHDRAW}
_OTHERS: Final[dict[str, Callable[[JsonObject, None, Rules, Sequence[str]], tuple[Body, str]]]] = {
    "transfer": read_transfer,
    "hold": read_hold,
    "capture": read_capture,
    "release": read_release,
}
"""Kinds with a body of their own, and who reads them."""

KINDS: Final = (*_MOVEMENTS, *_OTHERS)
MODES: Final = ("independent", "all_or_nothing")
REPLIES: Final = ("full", "compact")

_SLICE: Final = 1_024  # about a millisecond on the fast way
_SLOW_SLICE: Final = 64  # about as long where most operations go the slow way
_MAX_OPERATION_BYTES: Final = 16_384
_OPERATION_QUOTES: Final = NAME_QUOTES + 3 * TEXT_QUOTES
_MAX_AROUND_BYTES: Final = 16_384  # beside the operations, white space not counted
_FIELDS: Final = ("mode", "reply", "operations")
_WHITE_SPACE: Final = b" \t\r\n"
_AT_BYTE: Final = re.compile(r"\(byte (\d+)\)")

OperationError = Malformed | AmountRefused
"""Why an operation is none, as the single call would tell it."""


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_CHARACTERS)]


class _Deposit(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="kind", tag="deposit"):
    account_id: _Id
    amount: msgspec.Raw
    transaction_id: _Id


class _Withdrawal(msgspec.Struct, forbid_unknown_fields=True, gc=False, tag_field="kind", tag="withdraw"):
    account_id: _Id
    amount: msgspec.Raw
    transaction_id: _Id


_Typed = _Deposit | _Withdrawal


class _Batch(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    operations: list[_Typed]
    mode: Literal["independent", "all_or_nothing"] | msgspec.UnsetType = msgspec.UNSET
    reply: Literal["full", "compact"] | msgspec.UnsetType = msgspec.UNSET


class _Around(msgspec.Struct, gc=False):
    operations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_operation: Final = msgspec.json.Decoder(_Typed).decode
_decode_operations_alone: Final = msgspec.json.Decoder(_Around).decode
_decode_around: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


class BatchBody:
    """A batch as it was asked. Its operations are checked while `slices` is drawn.

    `movements` are those drawn so far, `indices` their places among the operations, and `errors` the operations that
    are none, by their index. `printable`: all ids are. `plain` has the operations once more when all of their ids are
    right, so that only the amounts have to be looked at.
    """

    def __init__(
        self,
        operations: Sequence[_Typed | msgspec.Raw],
        *,
        all_or_nothing: bool,
        compact: bool,
        printable: bool = False,
        plain: Sequence[_Typed] = (),
    ) -> None:
        self.all_or_nothing = all_or_nothing
        self.compact = compact
        self.count = len(operations)
        self.errors: dict[int, OperationError] = {}
        self.movements: list[Movement] = []
        self.indices: list[int] = []
        self._operations = operations
        self._printable = printable
        self._plain = plain

    def slices(self, rules: Rules, is_known: Callable[[str], bool]) -> Iterator[list[Movement]]:
        """The movements, some at a time; `is_known` tells whether an id was used before."""
        size = _SLICE if isinstance(self._operations[0], _Typed) else _SLOW_SLICE
        for begin in range(0, self.count, size):
            some = self._operations[begin : begin + size]
            movements = self._all_right(self._plain[begin : begin + size], rules)
            if movements:
                self.indices += range(begin, begin + len(movements))
            else:
                movements = self._one_by_one(some, begin, rules, is_known)
            self.movements += movements
            yield movements

    def _one_by_one(
        self, operations: Sequence[_Typed | msgspec.Raw], begin: int, rules: Rules, is_known: Callable[[str], bool]
    ) -> list[Movement]:
        """The movements among these operations, of which the first has the index `begin`."""
        movements: list[Movement] = []
        for index, one in enumerate(operations, begin):
            try:
                movements.append(self._movement(one, rules))
            except AmountRefused as refused:
                self._again_without_limit(index, refused, rules, is_known, movements)
            except Malformed as malformed:
                self.errors[index] = malformed
            else:
                self.indices.append(index)
        return movements

    def _all_right(self, operations: Sequence[_Typed], rules: Rules) -> list[Movement]:
        """The movements if all of these are right in every respect, the usual case; none to look at each alone."""
        lines = b"\n".join([one.amount for one in operations]).replace(b'"', b"")
        amounts = parse_plain_amounts(lines.decode("ascii"), rules.exponent, rules.max_amount)
        if len(amounts) != len(operations):  # a text of several lines is no amount, whatever stands on each
            return []
        return [
            (_DEPOSIT if type(one) is _Deposit else _WITHDRAW, one.account_id, amount, one.transaction_id, b"")
            for one, amount in zip(operations, amounts, strict=True)
        ]

    def _again_without_limit(
        self,
        index: int,
        refused: AmountRefused,
        rules: Rules,
        is_known: Callable[[str], bool],
        movements: list[Movement],
    ) -> None:
        """An id that was used before the limit was lowered keeps its answer, and a retry must learn it."""
        try:
            if refused.code is not AmountProblem.OVER_LIMIT or not is_known(refused.transaction_id):
                raise refused
            movements.append(self._movement(self._operations[index], rules._replace(max_amount=MAX_STORED)))
        except AmountRefused as for_good:
            self.errors[index] = for_good
        else:
            self.indices.append(index)

    def _movement(self, one: _Typed | msgspec.Raw, rules: Rules) -> Movement:
        if isinstance(one, msgspec.Raw):
            return _read_operation(one, rules)
        account_id, transaction_id = one.account_id, one.transaction_id
        try:
            amount, _ = take_amount(one.amount, rules)
        except (AmountError, ValueError):
            return _told(msgspec.json.encode(one), rules)
        if account_id[0] == "@" or not (self._printable or (account_id + transaction_id).isprintable()):
            return _told(msgspec.json.encode(one), rules)
        return (_DEPOSIT if type(one) is _Deposit else _WITHDRAW), account_id, amount, transaction_id, b""


_DEPOSIT: Final = Kind.DEPOSIT
_WITHDRAW: Final = Kind.WITHDRAW


def decode_batch(body: bytes) -> BatchBody:
    """Read a batch; its operations are only looked at later. Raises Malformed."""
    return _decode_fast(body) or _decode_slowly(body)


def _decode_fast(body: bytes) -> BatchBody | None:
    """None says nothing but that the slow way must look at it."""
    if b"\\" in body:
        return None
    try:
        batch = _decode_batch(body)
    except (ValueError, RecursionError):
        return None
    operations = batch.operations
    count = len(operations)
    quotes = (
        NAME_QUOTES
        + _OPERATION_QUOTES * count
        + TEXT_QUOTES * (batch.mode is not msgspec.UNSET)
        + TEXT_QUOTES * (batch.reply is not msgspec.UNSET)
    )
    extra = body.count(b'"') - quotes
    if extra and extra != 2 * sum(bytes(one.amount)[:1] == b'"' for one in operations):
        return None
    if not 0 < count <= MAX_BATCH_OPERATIONS:
        return None
    printable = body.isascii() and b"\x7f" not in body
    plain = printable and not (b"@" in body and any(one.account_id[0] == "@" for one in operations))
    return BatchBody(
        operations,
        all_or_nothing=batch.mode == "all_or_nothing",
        compact=batch.reply == "compact",
        printable=printable,
        plain=operations if plain else (),
    )


def _decode_slowly(body: bytes) -> BatchBody:
    fields = _around(body)
    errors = [FieldError("operations", "is missing")] if "operations" not in fields else []
    unknown = [name for name in fields if name not in _FIELDS]
    errors += [
        FieldError(name if name.isprintable() else ascii(name), "is not a field of this request")
        for name in unknown[:8]
    ]
    inside = sum(bytes(value).count(b'"') for value in fields.values())
    if not unknown and body.count(b'"') != inside + 2 * len(fields):
        errors.append(FieldError("body", "has a field more than once"))
    mode = _choice(errors, fields, "mode", MODES)
    reply = _choice(errors, fields, "reply", REPLIES)
    operations = _operations(errors, fields["operations"]) if "operations" in fields else []
    if errors:
        raise Malformed(errors)
    return BatchBody(operations, all_or_nothing=mode == MODES[1], compact=reply == REPLIES[1])


def _around(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        around = _bytes_around(body, _decode_operations_alone(body).operations)
        if around <= _MAX_AROUND_BYTES:
            return _decode_around(body)
        problem = f"has {around} bytes beside its operations, and may have {_MAX_AROUND_BYTES}"
    except msgspec.ValidationError:
        problem = "must be a JSON object"
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except msgspec.DecodeError as error:
        found = _AT_BYTE.search(str(error))
        problem = f"is not JSON at byte {found[1] if found else len(body)}" if body else "is empty"
    except RecursionError:
        problem = "is nested too deep"
    raise Malformed([FieldError("body", problem)])


def _bytes_around(body: bytes, operations: msgspec.Raw | msgspec.UnsetType) -> int:
    """A million small fields would hold up every other request while they are told apart: they are not."""
    inside = b"" if operations is msgspec.UNSET else bytes(operations)
    if len(body) - len(inside) <= _MAX_AROUND_BYTES:
        return len(body) - len(inside)
    return len(body.translate(None, _WHITE_SPACE)) - len(inside.translate(None, _WHITE_SPACE))


def _choice(errors: list[FieldError], fields: dict[str, msgspec.Raw], name: str, choices: tuple[str, ...]) -> str:
    if name not in fields:
        return choices[0]
    try:
        chosen = _decode_text(fields[name])
    except ValueError:
        chosen = ""
    if chosen not in choices:
        errors.append(FieldError(name, must_be_one_of(choices)))
    return chosen


def _operations(errors: list[FieldError], value: msgspec.Raw) -> list[msgspec.Raw]:
    text = bytes(value)
    if not text.startswith(b"["):
        problem = "must be an array"
    elif _are_too_many(text):
        problem = f"must hold at most {MAX_BATCH_OPERATIONS} operations"
    else:
        operations = _decode_list(text)
        if operations:
            return operations
        problem = "must hold at least one operation"
    errors.append(FieldError("operations", problem))
    return []


def _are_too_many(array: bytes) -> bool:
    """Tell without a look at what is beyond the limit: a million tiny elements would hold up every other request."""
    if array.count(b",") < MAX_BATCH_OPERATIONS:
        return False
    try:
        _decode_at_most()(array)
    except msgspec.ValidationError:
        return True
    return False


@cache
def _decode_at_most() -> Callable[[bytes], object]:
    """A decoder of arrays that stops at the first element too many: to msgspec they are an object with as many fields.

    It is made when it is first needed, which takes longer than its use.
    """
    fields = [(f"element{number}", msgspec.Raw, None) for number in range(MAX_BATCH_OPERATIONS)]
    array = msgspec.defstruct("Elements", fields, array_like=True, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(array).decode


def _read_operation(raw: msgspec.Raw, rules: Rules) -> Movement:
    text = bytes(raw)
    try:
        one = _decode_operation(text)
        amount, quotes = take_amount(one.amount, rules)
    except (ValueError, RecursionError, AmountError):
        return _told(text, rules)
    if text.count(b'"') != quotes + _OPERATION_QUOTES or b"\\" in text:
        return _told(text, rules)
    if account_id_problem(one.account_id) or transaction_id_problem(one.transaction_id):
        return _told(text, rules)
    return (_DEPOSIT if type(one) is _Deposit else _WITHDRAW), one.account_id, amount, one.transaction_id, b""


def _told(text: bytes, rules: Rules) -> Movement:
    """The definition of what is accepted; it says all that is wrong."""
    if len(text) > _MAX_OPERATION_BYTES:
        raise Malformed([FieldError("operation", f"is longer than the limit of {_MAX_OPERATION_BYTES} bytes")])
    members = parse_object(text, "operation")
    asked = next((value for name, value in members if name == "kind"), None)
    if isinstance(asked, str) and asked not in KINDS:  # whose other fields cannot be told right from wrong
        raise Malformed([FieldError("kind", must_be_one_of(KINDS))])
    read = _OTHERS.get(str(asked))
    if read is not None:
        (kind, account_id, amount, extra), transaction_id = read(members, None, rules, ("kind",))
        return kind, account_id, amount, transaction_id, extra
    name, (account_id, amount, transaction_id) = decode_operation_slowly(members, KINDS, rules)
    return _MOVEMENTS[name], account_id, amount, transaction_id, b""
