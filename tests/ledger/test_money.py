"""Amounts: every text is held against decimal.Decimal, which is exact and shares no code with ours."""

from __future__ import annotations

import json
from decimal import Context, Decimal, Inexact

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftwallet.errors import ClientError
from ftwallet.ledger.money import (
    MAX_STORED,
    AmountError,
    AmountProblem,
    format_amount,
    parse_amount,
    parse_plain_amounts,
)

EXACT = Context(prec=2000, traps=[Inexact])

digits = st.text("0123456789", min_size=1, max_size=45)
whole = st.one_of(
    st.just("0"), st.builds("{}{}".format, st.sampled_from("123456789"), st.text("0123456789", max_size=45))
)
numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "", "-"]),
    whole,
    st.one_of(st.just(""), digits.map(".{}".format), st.integers(0, 6).map(lambda zeros: ".5" + "0" * zeros)),
    st.one_of(
        st.just(""),
        st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 99)),
    ),
)


def expected(text: str, exponent: int, limit: int) -> int | AmountProblem:
    """The same answer by the plain road."""
    value = Decimal(text)
    if value <= 0:
        return AmountProblem.NOT_POSITIVE
    minor = EXACT.scaleb(value, exponent)
    if minor != EXACT.to_integral_value(minor):
        return AmountProblem.TOO_MANY_DECIMALS
    return AmountProblem.OVER_LIMIT if minor > limit else int(minor)


def parsed(text: str, exponent: int, limit: int = MAX_STORED) -> int | AmountProblem:
    try:
        return parse_amount(text, exponent, limit)
    except AmountError as error:
        return error.code


@given(numbers, st.integers(0, 18), st.sampled_from([MAX_STORED, 10**18, 1]))
@example("0.00", 2, MAX_STORED)
@example("340282366920938463463374607431768211455", 0, MAX_STORED)
@example("340282366920938463463374607431768211456", 0, MAX_STORED)
def test_every_number_is_read_as_decimal_reads_it(text: str, exponent: int, limit: int) -> None:
    assert parsed(text, exponent, limit) == expected(text, exponent, limit)


@given(st.text("0123456789.eE+-_ ,NaInfity\u0663\u00b2\n", max_size=12))
def test_whatever_json_would_not_read_as_a_number_is_refused(text: str) -> None:
    try:
        is_number = isinstance(json.loads(text, parse_constant=lambda _: None), int | float)
    except ValueError:
        is_number = False
    # JSON allows white space around a value; an amount's text is the number alone.
    is_number = is_number and text == text.strip()
    assert (parsed(text, 2) == AmountProblem.SYNTAX) is not is_number


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("1000.5", 100050),
        ("1.50", 150),
        ("1.5", 150),
        ("1.000", 100),
        ("0.01", 1),
        ("1e3", 100_000),
        ("1E+3", 100_000),
        ("12.5e-1", 125),
        ("0.000001e4", 1),
        ("9007199254740993.01", 900719925474099301),
        ("1" + "0" * 30 + "e-30", 100),
        ("1." + "0" * 5000, 100),
        ("1e0000000000000000002", 10_000),
    ],
)
def test_amounts_are_exact(text: str, minor: int) -> None:
    assert parse_amount(text, 2) == minor


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "NaN",
        "Infinity",
        "-Infinity",
        "+1",
        "01",
        "00",
        ".5",
        "1.",
        "1.e2",
        "1e",
        "1e+",
        "1_000",
        "0x10",
        "1,5",
        "\u0661",
        "\u00b2",
        "1\n",
        "1\x00",
        "--1",
        "true",
    ],
)
def test_other_grammar_is_refused(text: str) -> None:
    with pytest.raises(AmountError, match="written as in JSON") as caught:
        parse_amount(text, 2)
    assert caught.value.code is AmountProblem.SYNTAX


@pytest.mark.parametrize("text", ["0", "0.00", "-0", "-0.0", "-1", "-1e400000000", "0e400000000", "-0.001"])
def test_nothing_and_less_are_not_positive(text: str) -> None:
    with pytest.raises(AmountError, match=r"^Amount must be positive$"):
        parse_amount(text, 2)


@pytest.mark.parametrize(
    ("text", "exponent", "detail"),
    [
        ("0.001", 2, "Amount has more than 2 decimal places"),
        ("1.25", 1, "Amount has more than 1 decimal place"),
        ("0.5", 0, "Amount has more than 0 decimal places"),
        ("1e-3", 2, "Amount has more than 2 decimal places"),
        ("1e-400000000", 2, "Amount has more than 2 decimal places"),
        ("1.00e-1000000", 2, "Amount has more than 2 decimal places"),
    ],
)
def test_more_decimals_than_the_currency_has(text: str, exponent: int, detail: str) -> None:
    with pytest.raises(AmountError, match=f"^{detail}$") as caught:
        parse_amount(text, exponent)
    assert caught.value.code is AmountProblem.TOO_MANY_DECIMALS


@pytest.mark.parametrize(
    "text", ["1E+400000000", "1e" + "9" * 10_000, "9" * 16_000, "1e999999", "1000.01", "100001e-2"]
)
def test_past_the_limit_is_refused_at_once_and_says_the_limit(text: str) -> None:
    with pytest.raises(AmountError, match=r"^Amount is over the limit of 1000\.0$") as caught:
        parse_amount(text, 2, limit=100_000)
    assert caught.value.code is AmountProblem.OVER_LIMIT


def test_an_amount_error_is_the_callers_fault() -> None:
    with pytest.raises(ClientError):
        parse_amount("x", 2)


@pytest.mark.parametrize(
    ("minor", "exponent", "text"),
    [
        (100050, 2, "1000.5"),
        (75000, 2, "750.0"),
        (1, 2, "0.01"),
        (0, 2, "0.0"),
        (1000, 0, "1000"),
        (0, 0, "0"),
        (900719925474099301, 2, "9007199254740993.01"),
        (-150, 2, "-1.5"),
        (1, 18, "0.000000000000000001"),
        (MAX_STORED, 3, "340282366920938463463374607431768211.455"),
    ],
)
def test_amounts_are_written_exactly(minor: int, exponent: int, text: str) -> None:
    assert format_amount(minor, exponent) == text


@given(st.integers(-(2**130), 2**130), st.integers(0, 18))
def test_what_is_written_is_the_same_number(minor: int, exponent: int) -> None:
    text = format_amount(minor, exponent)
    assert EXACT.scaleb(Decimal(text), exponent) == minor
    assert ("." in text) == (exponent > 0)
    assert not text.endswith("00") or exponent == 0
    json.loads(text)


@given(st.integers(1, MAX_STORED), st.integers(0, 18))
def test_what_is_written_is_read_back(minor: int, exponent: int) -> None:
    assert parse_amount(format_amount(minor, exponent), exponent) == minor


plain = st.builds("{}{}".format, whole.filter(lambda text: len(text) <= 18), st.sampled_from(["", ".0", ".05", ".70"]))
lines = st.lists(st.one_of(plain, plain, plain, numbers, st.text("0123456789.,-_ eE\n\u0663", max_size=4)), min_size=1)


@given(lines, st.integers(0, 4), st.sampled_from([1, 10_000, 10**18, MAX_STORED]))
@example(["12", "1_0"], 2, MAX_STORED)
@example(["12", ""], 2, MAX_STORED)
@example(["12", "0.00"], 2, MAX_STORED)
@example(["12", "7.000"], 2, MAX_STORED)
@example(["12", "100.01"], 2, 10_000)
def test_plain_amounts_are_what_each_is_alone(texts: list[str], exponent: int, limit: int) -> None:
    amounts = parse_plain_amounts("\n".join(texts), exponent, limit)
    if amounts:
        assert amounts == [parse_amount(text, exponent, limit) for line in texts for text in line.split("\n")]


@given(st.lists(plain.filter(lambda text: float(text) > 0), min_size=1))
@example(["1000.5", "0.01", "7", "999999999999999999.99"])
def test_plain_amounts_are_read_all_at_once(texts: list[str]) -> None:
    assert parse_plain_amounts("\n".join(texts), 2, MAX_STORED)
    assert parse_plain_amounts("\n".join([*texts, "1e2"]), 2, MAX_STORED) == []


def test_ten_thousand_plain_amounts_with_a_bad_one_at_the_end_take_no_longer() -> None:
    assert parse_plain_amounts("9" * 18 + "\n" + "123.45\n" * 10_000 + "x", 2, MAX_STORED) == []
