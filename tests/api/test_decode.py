"""Decoding against a naive reading of the same rules, with Python's json and Decimal."""

from __future__ import annotations

import json
import re
from decimal import Decimal, localcontext

from hypothesis import given, settings
from hypothesis import strategies as st

from ftwallet.api.decode import (
    AmountRefused,
    Malformed,
    MovementFields,
    decode_balance,
    decode_balance_fast,
    decode_balance_slowly,
    decode_movement,
    decode_movement_fast,
    decode_movement_slowly,
    idempotency_key,
)
from ftwallet.ledger.money import AmountProblem
from ftwallet.ledger.rules import Rules

RULES = Rules(exponent=2, max_amount=10**18)
FIELDS = {"account_id", "amount", "transaction_id"}
Verdict = MovementFields | AmountProblem | None
"""What was asked, the rule of amounts that it breaks, or None for malformed."""


class Pairs(list[tuple[str, object]]):
    """A JSON object, duplicates included."""


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _load(text: str) -> object:
    return json.loads(text, object_pairs_hook=Pairs, parse_int=Decimal, parse_float=Decimal, parse_constant=_refuse)


def naive_movement(body: bytes, key: str | None) -> Verdict:
    try:
        pairs = _load(body.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, Pairs) or len(dict(pairs)) != len(pairs):
        return None
    fields = dict(pairs)
    if key is not None:
        fields.setdefault("transaction_id", key)
    if set(fields) != FIELDS or key not in {None, fields["transaction_id"]}:
        return None
    account_id, transaction_id = fields["account_id"], fields["transaction_id"]
    if not _is_id(account_id) or not _is_id(transaction_id) or str(account_id).startswith("@"):
        return None
    amount = naive_amount(fields["amount"])
    return (str(account_id), amount, str(transaction_id)) if isinstance(amount, int) else amount


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= 128 and value.isprintable()


def naive_amount(value: object) -> int | AmountProblem | None:
    if isinstance(value, str):
        try:
            value = None if re.search(r"\s", value) else _load(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, Decimal):
        return None
    with localcontext() as context:
        context.prec = 500
        minor = value.scaleb(RULES.exponent)
        if minor <= 0:
            return AmountProblem.NOT_POSITIVE
        if minor % 1:
            return AmountProblem.TOO_MANY_DECIMALS
        return int(minor) if minor <= RULES.max_amount else AmountProblem.OVER_LIMIT


def verdict(body: bytes, key: str | None) -> Verdict:
    try:
        return decode_movement(body, key, RULES)
    except Malformed as error:
        str(error).encode()
        return None
    except AmountRefused as error:
        return error.code


def slow_verdict(body: bytes, key: str | None) -> Verdict:
    try:
        return decode_movement_slowly(body, key, RULES)
    except Malformed:
        return None
    except AmountRefused as error:
        return error.code


def _escaped(text: str) -> st.SearchStrategy[str]:
    """JSON texts of a string, with some of its characters as escapes."""
    return st.lists(st.booleans(), min_size=len(text), max_size=len(text)).map(
        lambda flags: '"' + "".join(_character(*pair) for pair in zip(text, flags, strict=True)) + '"'
    )


def _plain(text: str) -> str:
    """JSON text of a string, with no more escapes than it needs."""
    return '"' + "".join(_character(character, escape=False) for character in text) + '"'


def _character(character: str, escape: bool) -> str:
    if escape or character in '"\\' or ord(character) < 32 or 0xD800 <= ord(character) < 0xE000:
        return "".join(f"\\u{unit:04x}" for unit in _utf16(character))
    return character


def _utf16(character: str) -> list[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
NEARLY_NUMBERS = st.one_of(
    NUMBERS, st.sampled_from(["NaN", "-Infinity", "01", "1.", ".5", "+1", "1e", "0x1", "", " 1", "1_0"])
)
IDS = st.one_of(
    st.sampled_from(["t1", "user123", "@world", "", "x" * 128, "x" * 129]),
    st.text(max_size=6),
    st.text(st.characters(), max_size=3),
)
KEYS = st.none() | st.just("t1") | IDS
TEXTS = IDS.map(_plain) | IDS.flatmap(_escaped)
OTHER_VALUES = st.sampled_from(["true", "null", "{}", "[]", '{"amount":1}', '["1"]', "NaN", "Infinity"])
VALUES = st.one_of(NUMBERS, NEARLY_NUMBERS.map(lambda text: f'"{text}"'), TEXTS, OTHER_VALUES)
SPACES = st.sampled_from(["", "", " ", "\n", "\t\r"])


def _field(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(SPACES, _escaped(name) | st.just(_plain(name)), SPACES, values, SPACES).map(
        lambda part: f"{part[0]}{part[1]}{part[2]}:{part[3]}{part[4]}"
    )


AMOUNTS = st.one_of(NUMBERS, NUMBERS.map(lambda text: f'"{text}"'), NUMBERS.flatmap(_escaped))
ANY_FIELD = st.sampled_from([*sorted(FIELDS), "memo", "Amount", "", "\ud800"]).flatmap(
    lambda name: _field(name, VALUES)
)
WELL_FORMED = st.tuples(
    _field("account_id", TEXTS), _field("amount", AMOUNTS), _field("transaction_id", st.just('"t1"') | TEXTS)
)
BODIES = st.one_of(
    WELL_FORMED.flatmap(st.permutations),
    st.tuples(WELL_FORMED, st.lists(ANY_FIELD, max_size=2)).flatmap(
        lambda parts: st.permutations([*parts[0], *parts[1]])
    ),
    st.lists(ANY_FIELD, max_size=5),
).map(lambda fields: ("{" + ",".join(fields) + "}").encode())


@st.composite
def damaged_bodies(draw: st.DrawFn) -> bytes:
    """A body cut, or with a piece replaced by other bytes."""
    body = draw(BODIES)
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 3)))
    return body[:start] + draw(st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b",", b"{", b"\0"])) + body[end:]


@settings(max_examples=600, deadline=None)
@given(BODIES | damaged_bodies() | st.binary(max_size=30), KEYS)
def test_a_movement_is_read_as_the_naive_reader_reads_it(body: bytes, key: str | None) -> None:
    expected = naive_movement(body, key)
    assert slow_verdict(body, key) == expected
    assert verdict(body, key) == expected
    fast = decode_movement_fast(body, key, RULES)
    assert fast is None or fast == expected


GOOD_IDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters='@"\\'), min_size=1, max_size=9)


@settings(max_examples=200, deadline=None)
@given(GOOD_IDS, GOOD_IDS, st.decimals("0.01", "9999999.99", places=2), st.booleans(), st.booleans())
def test_the_fast_way_takes_every_good_body_without_escapes(
    account_id: str, transaction_id: str, amount: Decimal, quoted: bool, keyed: bool
) -> None:
    text = f'"{amount}"' if quoted else str(amount)
    rest = "" if keyed else f', "transaction_id": "{transaction_id}"'
    body = f'{{"account_id": "{account_id}", "amount": {text}{rest}}}'.encode()
    key = transaction_id if keyed else None
    assert decode_movement_fast(body, key, RULES) == (account_id, int(amount * 100), transaction_id)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(_field("account_id", VALUES) | ANY_FIELD, max_size=2).map(lambda f: ("{" + ",".join(f) + "}").encode())
    | st.binary(max_size=20)
)
def test_a_balance_request_is_read_as_the_naive_reader_reads_it(body: bytes) -> None:
    try:
        pairs = _load(body.decode())
    except (ValueError, RecursionError):
        pairs = None
    expected = None
    if isinstance(pairs, Pairs) and len(pairs) == 1 and pairs[0][0] == "account_id" and _is_id(pairs[0][1]):
        expected = None if str(pairs[0][1]).startswith("@") else pairs[0][1]
    for read in (decode_balance, decode_balance_slowly):
        try:
            got: str | None = read(body)
        except Malformed:
            got = None
        assert got == expected
    assert decode_balance_fast(body) in {None, expected}


@given(st.binary(max_size=20))
def test_a_header_of_any_bytes_is_a_good_id_or_refused(value: bytes) -> None:
    key = idempotency_key([(b"host", b"x"), (b"idempotency-key", value)])
    assert key is not None
    got = verdict(b'{"account_id":"a","amount":1}', key)
    try:
        good = _is_id(value.decode())
    except UnicodeDecodeError:
        good = False
    assert got == (("a", 100, key) if good else None)
