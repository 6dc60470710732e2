"""Amounts of money between text and integers, exactly.

Inside the ledger an amount is an integer of minor units (cents where the currency's exponent is 2). Text is
read by the grammar of JSON numbers and never passes through a binary float. Digits and exponents are
counted before any arithmetic, so that `1E+400000000` costs no more than `1`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import Final

from ftwallet.errors import ClientError

MAX_STORED: Final = 2**128 - 1
"""Greatest amount or balance that journal and state can hold, in minor units."""

_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?)([0-9]+))?")
_UNUSUAL_BEGINNINGS: Final = ("", "0", ".")
_MAX_DIGITS: Final = len(str(MAX_STORED))
_MAX_EXPONENT_DIGITS: Final = 6
_MAX_PLAIN_DIGITS: Final = 18


class AmountProblem(StrEnum):
    """Why a text is not an amount."""

    SYNTAX = "syntax"
    NOT_POSITIVE = "not_positive"
    TOO_MANY_DECIMALS = "too_many_decimals"
    OVER_LIMIT = "over_limit"


class AmountError(ClientError):
    """A text that is not an amount: `code` for programs, `detail` a sentence for a person."""

    def __init__(self, code: AmountProblem, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def parse_amount(text: str, exponent: int, limit: int = MAX_STORED) -> int:
    """Read a positive amount in JSON number grammar as minor units of a currency with `exponent` decimals.

    Trailing zeros never count: `1.50` is `1.5`, and `1.000` is an amount of any currency.
    Raises AmountError; `limit` is in minor units.
    """
    if len(text) <= _MAX_DIGITS and text.isascii() and text[:1] not in _UNUSUAL_BEGINNINGS:
        whole, _, fraction = text.partition(".")
        digits = whole + fraction
        if digits.isdigit() and len(fraction) <= exponent and text[-1] != ".":
            minor = int(digits) * 10 ** (exponent - len(fraction))
            return minor if minor <= limit else _within(minor, exponent, limit)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise AmountError(AmountProblem.SYNTAX, "Amount must be a decimal number, written as in JSON")
    sign, whole, fraction, power_sign, power = match.groups()
    fraction = fraction or ""
    digits = (whole + fraction).lstrip("0")
    if sign or not digits:
        raise AmountError(AmountProblem.NOT_POSITIVE, "Amount must be positive")
    significant = digits.rstrip("0")
    zeros = len(digits) - len(significant) - len(fraction) + exponent
    if power:
        zeros += _power(power_sign, power, exponent, limit)
    if zeros < 0:
        raise _too_many_decimals(exponent)
    if len(significant) + zeros > _MAX_DIGITS:
        raise _over_limit(exponent, limit)
    return _within(int(significant) * 10**zeros, exponent, limit)


def parse_plain_amounts(lines: str, exponent: int, limit: int) -> list[int]:
    """Read positive amounts, one a line, as `parse_amount` does, at a third of what it costs for each.

    All of them, if each is written plainly: no power of ten, and no more digits than the currency has, even zeros.
    Else none, which says nothing but that each must be read by `parse_amount`.
    """
    if not _plain_lines(exponent).fullmatch(lines):
        return []
    scales = [10 ** (exponent - decimals) for decimals in range(exponent + 1)]
    parts = [line.partition(".") for line in lines.split("\n")]
    amounts = [int(whole + fraction) * scales[len(fraction)] for whole, _, fraction in parts]
    return amounts if min(amounts) > 0 and max(amounts) <= limit else []


@cache
def _plain_lines(exponent: int) -> re.Pattern[str]:
    """Nothing in it is ever tried in two ways, so that its time is that of one look at each character."""
    fraction = rf"(?:\.[0-9]{{1,{exponent}}}+)?+" if exponent else ""
    number = rf"(?:0|[1-9][0-9]{{0,{_MAX_PLAIN_DIGITS - 1}}}+){fraction}"
    return re.compile(rf"{number}(?:\n{number})*+")


def format_amount(minor: int, exponent: int) -> str:
    """Write minor units as a JSON number with exact digits: `1000.5`, `750.0`, `0.01`; exponent 0: `1000`."""
    if minor < 0:
        return "-" + format_amount(-minor, exponent)
    if exponent == 0:
        return str(minor)
    digits = str(minor).zfill(exponent + 1)
    return f"{digits[:-exponent]}.{digits[-exponent:].rstrip('0') or '0'}"


def _power(sign: str, digits: str, exponent: int, limit: int) -> int:
    """Value of a power of ten; one too long to matter is refused before it is read."""
    digits = digits.lstrip("0") or "0"
    if len(digits) > _MAX_EXPONENT_DIGITS:
        raise _too_many_decimals(exponent) if sign == "-" else _over_limit(exponent, limit)
    return -int(digits) if sign == "-" else int(digits)


def _within(minor: int, exponent: int, limit: int) -> int:
    if minor > limit:
        raise _over_limit(exponent, limit)
    return minor


def _over_limit(exponent: int, limit: int) -> AmountError:
    return AmountError(AmountProblem.OVER_LIMIT, f"Amount is over the limit of {format_amount(limit, exponent)}")


def _too_many_decimals(exponent: int) -> AmountError:
    places = "place" if exponent == 1 else "places"
    return AmountError(AmountProblem.TOO_MANY_DECIMALS, f"Amount has more than {exponent} decimal {places}")
