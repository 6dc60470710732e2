"""Requests and what must come of them, on every path to a handler; none of these may leave a record."""

from __future__ import annotations

from typing import NamedTuple

GOOD = b'{"account_id":"user123","amount":1000.5,"transaction_id":"t1"}'
MOVEMENTS = ("/deposit", "/withdraw")
MAX_BODY = 1_000


class Case(NamedTuple):
    """A request; `field` is the field that the answer must name in `errors` (None where there is none)."""

    name: str
    body: bytes
    status: int
    detail: str
    field: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


def movement(account_id: bytes = b'"user123"', amount: bytes = b"1", transaction_id: bytes = b'"t1"') -> bytes:
    """A body from the JSON texts of its values."""
    return b'{"account_id":%b,"amount":%b,"transaction_id":%b}' % (account_id, amount, transaction_id)


def _amount(name: str, text: bytes, detail: str) -> Case:
    return Case(name, movement(amount=text), 422, f"amount {detail}", "amount")


def _account(name: str, text: bytes, detail: str) -> Case:
    return Case(name, movement(account_id=text), 422, f"account_id {detail}", "account_id")


def _transaction(name: str, text: bytes, detail: str) -> Case:
    return Case(name, movement(transaction_id=text), 422, f"transaction_id {detail}", "transaction_id")


def _body(name: str, body: bytes, detail: str) -> Case:
    return Case(name, body, 422, detail, "body")


_POSITIVE = "Amount must be positive"
_DECIMALS = "Amount has more than 2 decimal places"
_LIMIT = "Amount is over the limit of 10000000000000000.0"
_GRAMMAR = "must be a decimal number, written as in JSON"
_TYPE = "must be a number, or a string that holds one"
_PRINTABLE = "must have printable characters only"
_LONG = "must have at most 128 characters"

MALFORMED_MOVEMENTS = (
    _amount("NaN", b"NaN", "must be a finite number, not NaN"),
    _amount("Infinity", b"Infinity", "must be a finite number, not Infinity"),
    _amount("-Infinity", b"-Infinity", "must be a finite number, not -Infinity"),
    _amount("NaN as a string", b'"NaN"', _GRAMMAR),
    _amount("Infinity as a string", b'"Infinity"', _GRAMMAR),
    _amount("true", b"true", _TYPE),
    _amount("false", b"false", _TYPE),
    _amount("null", b"null", _TYPE),
    _amount("an object", b'{"amount":1}', _TYPE),
    _amount("an array", b"[1]", _TYPE),
    _amount("an empty string", b'""', _GRAMMAR),
    _amount("a word", b'"ten"', _GRAMMAR),
    _amount("a plus sign", b'"+1"', _GRAMMAR),
    _amount("a space", b'" 1"', _GRAMMAR),
    _amount("an underscore", b'"1_000"', _GRAMMAR),
    _amount("a comma", b'"1,5"', _GRAMMAR),
    _amount("hexadecimal", b'"0x10"', _GRAMMAR),
    _amount("a leading zero in a string", b'"01"', _GRAMMAR),
    _amount("no digits after the point", b'"1."', _GRAMMAR),
    _amount("no digits before the point", b'".5"', _GRAMMAR),
    _amount("Arabic digits", '"٣"'.encode(), _GRAMMAR),
    _amount("a NUL in the number", b'"1\\u0000"', _GRAMMAR),
    _account("account_id is a number", b"5", "must be a string"),
    _account("account_id is null", b"null", "must be a string"),
    _account("account_id is true", b"true", "must be a string"),
    _account("account_id is NaN", b"NaN", "must be a string"),
    _account("account_id is an array", b'["a"]', "must be a string"),
    _account("account_id is empty", b'""', "must not be empty"),
    _account("account_id is too long", b'"%b"' % (b"a" * 129), _LONG),
    _account("account_id has a NUL", b'"a\\u0000b"', _PRINTABLE),
    _account("account_id has a newline", b'"a\\nb"', _PRINTABLE),
    _account("account_id has DEL", b'"a\x7fb"', _PRINTABLE),
    _account("account_id has a lone surrogate", b'"\\ud800"', _PRINTABLE),
    _account("account_id has a zero-width space", '"a\u200bb"'.encode(), _PRINTABLE),
    _account("account_id is the world", b'"@world"', "must not start with '@': such accounts belong to the ledger"),
    _transaction("transaction_id is a number", b"5", "must be a string"),
    _transaction("transaction_id is null", b"null", "must be a string"),
    _transaction("transaction_id is an object", b"{}", "must be a string"),
    _transaction("transaction_id is empty", b'""', "must not be empty"),
    _transaction("transaction_id is too long", b'"%b"' % (b"a" * 129), _LONG),
    _transaction("transaction_id has a tab", b'"\\t"', _PRINTABLE),
    _transaction("transaction_id has a lone surrogate", b'"a\\udfffb"', _PRINTABLE),
    Case("account_id is missing", b'{"amount":1,"transaction_id":"t1"}', 422, "account_id is missing", "account_id"),
    Case("amount is missing", b'{"account_id":"a","transaction_id":"t1"}', 422, "amount is missing", "amount"),
    Case("no id at all", b'{"account_id":"a","amount":1}', 422, "transaction_id is missing", "transaction_id"),
    Case(
        "everything is missing",
        b"{}",
        422,
        "account_id is missing; amount is missing; transaction_id is missing",
        "transaction_id",
    ),
    Case(
        "everything is wrong",
        b'{"account_id":"","amount":"x","transaction_id":7,"colour":"red"}',
        422,
        "colour is not a field of this request; account_id must not be empty; transaction_id must be a string; "
        f"amount {_GRAMMAR}",
        "colour",
    ),
    Case("an unknown field", GOOD[:-1] + b',"memo":"x"}', 422, "memo is not a field of this request", "memo"),
    Case("a field in capitals", GOOD[:-1] + b',"Amount":1}', 422, "Amount is not a field of this request", "Amount"),
    Case(
        "an unknown field that cannot be encoded",
        GOOD[:-1] + b',"\\ud800":1}',
        422,
        "'\\ud800' is not a field of this request",
        "'\\ud800'",
    ),
    Case("amount twice", GOOD[:-1] + b',"amount":1000.5}', 422, "amount is given more than once", "amount"),
    Case(
        "amount twice, once with an escape",
        GOOD[:-1] + b',"\\u0061mount":5}',
        422,
        "amount is given more than once",
        "amount",
    ),
    Case(
        "account_id twice, the first one empty",
        b'{"account_id":"",' + GOOD[1:],
        422,
        "account_id is given more than once",
        "account_id",
    ),
    Case(
        "transaction_id twice",
        GOOD[:-1] + b',"transaction_id":"t2"}',
        422,
        "transaction_id is given more than once",
        "transaction_id",
    ),
    _body("an empty body", b"", "body is empty"),
    _body("only spaces", b"  ", "body is not JSON at character 2"),
    _body("no JSON", b"account_id=user123&amount=5", "body is not JSON at character 0"),
    _body("a body cut short", GOOD[:-1], f"body is not JSON at character {len(GOOD) - 1}"),
    _body("two bodies", GOOD + GOOD, f"body is not JSON at character {len(GOOD)}"),
    _body("a NUL after the body", GOOD + b"\0", f"body is not JSON at character {len(GOOD)}"),
    _body("an array", b"[" + GOOD + b"]", "body must be a JSON object"),
    _body("an array of pairs", b'[["account_id","user123"]]', "body must be a JSON object"),
    _body("a string", b'"deposit"', "body must be a JSON object"),
    _body("a number", b"7", "body must be a JSON object"),
    _body("null", b"null", "body must be a JSON object"),
    _body("not UTF-8", movement(account_id=b'"\xff"'), "body is not UTF-8 at byte 15"),
    _body("a surrogate in UTF-8", movement(account_id=b'"\xed\xa0\x80"'), "body is not UTF-8 at byte 15"),
    _body("UTF-16", GOOD.decode().encode("utf-16"), "body is not UTF-8 at byte 0"),
    _body("not UTF-8 in the amount", movement(amount=b'"\xff"'), "body is not UTF-8 at byte 34"),
    _body(
        "a control character in a string",
        movement(account_id=b'"a\nb"'),
        "body is not JSON at character 16",
    ),
    _body("a leading zero", movement(amount=b"01"), "body is not JSON at character 34"),
    Case(
        "body and header differ",
        GOOD,
        422,
        "transaction_id differs from the Idempotency-Key header",
        "transaction_id",
        (("Idempotency-Key", "t2"),),
    ),
    Case(
        "two keys",
        GOOD,
        422,
        "Idempotency-Key is given more than once",
        "Idempotency-Key",
        (("Idempotency-Key", "t1"), ("Idempotency-Key", "t1")),
    ),
    Case(
        "an empty key",
        b'{"account_id":"a","amount":1}',
        422,
        "Idempotency-Key must not be empty",
        "Idempotency-Key",
        (("Idempotency-Key", ""),),
    ),
    Case(
        "a key that is too long",
        b'{"account_id":"a","amount":1}',
        422,
        f"Idempotency-Key {_LONG}",
        "Idempotency-Key",
        (("Idempotency-Key", "k" * 129),),
    ),
    Case(
        "a key that is not UTF-8",
        b'{"account_id":"a","amount":1}',
        422,
        f"Idempotency-Key {_PRINTABLE}",
        "Idempotency-Key",
        (("Idempotency-Key", "\udcff"),),
    ),
    Case(
        "a body field is no excuse for the key",
        b'{"account_id":"a","amount":1,"transaction_id":null}',
        422,
        "transaction_id must be a string; transaction_id differs from the Idempotency-Key header",
        "transaction_id",
        (("Idempotency-Key", "t1"),),
    ),
)

REFUSED_AMOUNTS = (
    Case("zero", movement(amount=b"0"), 400, _POSITIVE),
    Case("zero with decimals", movement(amount=b"0.00"), 400, _POSITIVE),
    Case("minus zero", movement(amount=b"-0"), 400, _POSITIVE),
    Case("a zero of great exponent", movement(amount=b"0e999999999"), 400, _POSITIVE),
    Case("negative", movement(amount=b"-5"), 400, _POSITIVE),
    Case("negative as a string", movement(amount=b'"-0.01"'), 400, _POSITIVE),
    Case("three decimals", movement(amount=b"0.001"), 400, _DECIMALS),
    Case("three decimals as a string", movement(amount=b'"1.005"'), 400, _DECIMALS),
    Case("a small exponent", movement(amount=b"1e-400"), 400, _DECIMALS),
    Case("a hugely small exponent", movement(amount=b"1e-400000000"), 400, _DECIMALS),
    Case("1e400", movement(amount=b"1e400"), 400, _LIMIT),
    Case("1E+400000000", movement(amount=b'"1E+400000000"'), 400, _LIMIT),
    Case("10^30", movement(amount=b"1" + b"0" * 30), 400, _LIMIT),
    Case("one cent over the limit", movement(amount=b"10000000000000000.01"), 400, _LIMIT),
    Case("700 digits", movement(amount=b"9" * 700), 400, _LIMIT),
    Case("700 decimals", movement(amount=b"0." + b"1" * 700), 400, _DECIMALS),
)

MALFORMED_BALANCES = (
    Case("no account", b"{}", 422, "account_id is missing", "account_id"),
    Case(
        "account twice", b'{"account_id":"a","account_id":"a"}', 422, "account_id is given more than once", "account_id"
    ),
    Case("an amount", b'{"account_id":"a","amount":1}', 422, "amount is not a field of this request", "amount"),
    Case("a number", b'{"account_id":5}', 422, "account_id must be a string", "account_id"),
    Case("empty", b'{"account_id":""}', 422, "account_id must not be empty", "account_id"),
    Case(
        "the world",
        b'{"account_id":"@world"}',
        422,
        "account_id must not start with '@': such accounts belong to the ledger",
        "account_id",
    ),
    Case("a lone surrogate", b'{"account_id":"\\udead"}', 422, f"account_id {_PRINTABLE}", "account_id"),
    _body("no JSON", b"user123", "body is not JSON at character 0"),
    _body("not UTF-8", b'{"account_id":"\xc3"}', "body is not UTF-8 at byte 15"),
)


def leg(source: bytes = b'"user123"', target: bytes = b'"bob"', amount: bytes = b"1") -> bytes:
    """A leg from the JSON texts of its values."""
    return b'{"from_account_id":%b,"to_account_id":%b,"amount":%b}' % (source, target, amount)


def transfer(
    source: bytes = b'"user123"', target: bytes = b'"bob"', amount: bytes = b"1", transaction_id: bytes = b'"x1"'
) -> bytes:
    """The body of a transfer of one leg."""
    return b'%b,"transaction_id":%b}' % (leg(source, target, amount)[:-1], transaction_id)


def legs(*several: bytes, transaction_id: bytes = b'"x1"') -> bytes:
    """The body of a transfer of several legs."""
    return b'{"legs":[%b],"transaction_id":%b}' % (b",".join(several), transaction_id)


def _end(name: str, body: bytes, field: str, detail: str) -> Case:
    return Case(name, body, 422, f"{field} {detail}", field)


_OUTSIDE = "must not start with '@': such accounts belong to the ledger; only @world, the outside, may stand here"
_BESIDE = "stands beside legs: give one or the other"

GOOD_TRANSFER = transfer()
MALFORMED_TRANSFERS = (
    _end("no source", b'{"to_account_id":"b","amount":1,"transaction_id":"x"}', "from_account_id", "is missing"),
    _end("no target", b'{"from_account_id":"b","amount":1,"transaction_id":"x"}', "to_account_id", "is missing"),
    _end("no amount", b'{"from_account_id":"a","to_account_id":"b","transaction_id":"x"}', "amount", "is missing"),
    _end("no id", leg(), "transaction_id", "is missing"),
    _end("source is a number", transfer(source=b"1"), "from_account_id", "must be a string"),
    _end("source is empty", transfer(source=b'""'), "from_account_id", "must not be empty"),
    _end("target belongs to the ledger", transfer(target=b'"@fees"'), "to_account_id", _OUTSIDE),
    _end("to itself", transfer(target=b'"user123"'), "to_account_id", "must differ from from_account_id"),
    _end("outside to outside", transfer(b'"@world"', b'"@world"'), "to_account_id", "must differ from from_account_id"),
    _end("amount is no number", transfer(amount=b"true"), "amount", _TYPE),
    _end("id is empty", transfer(transaction_id=b'""'), "transaction_id", "must not be empty"),
    _end("an unknown field", GOOD_TRANSFER[:-1] + b',"fee":1}', "fee", "is not a field of this request"),
    _end("a field twice", GOOD_TRANSFER[:-1] + b',"amount":1}', "amount", "is given more than once"),
    _end("legs and an amount", legs(leg())[:-1] + b',"amount":1}', "amount", _BESIDE),
    _end("legs are an object", b'{"legs":{},"transaction_id":"x"}', "legs", "must be an array"),
    _end("legs twice", legs(leg())[:-1] + b',"legs":[]}', "legs", "is given more than once"),
    _end("no leg", legs(), "legs", "must hold 1 to 32 legs, and holds 0"),
    _end("too many legs", legs(*[b"1"] * 33), "legs", "must hold 1 to 32 legs, and holds 33"),
    _end("a leg is a number", legs(leg(), b"1"), "legs[1]", "must be a JSON object"),
    _end("a leg lacks its amount", legs(leg()[:-12] + b"}"), "legs[0].amount", "is missing"),
    _end("a leg has more", legs(leg()[:-1] + b',"x":1}'), "legs[0].x", "is not a field of this request"),
    _end(
        "a leg to itself",
        legs(leg(), leg(target=b'"user123"')),
        "legs[1].to_account_id",
        "must differ from from_account_id",
    ),
    _end("an end of a leg", legs(leg(source=b'"@x"')), "legs[0].from_account_id", _OUTSIDE),
    _end("an amount of a leg", legs(leg(amount=b'"1,5"')), "legs[0].amount", _GRAMMAR),
)


def hold(
    account_id: bytes = b'"user123"', amount: bytes = b"30", transaction_id: bytes = b'"h1"', more: bytes = b""
) -> bytes:
    """The body of a hold; `more` are further members, with their comma."""
    return movement(account_id, amount, transaction_id)[:-1] + more + b"}"


def of_hold(transaction_id: bytes = b'"c1"', more: bytes = b"") -> bytes:
    """The body of a capture or a release."""
    return b'{"transaction_id":%b%b}' % (transaction_id, more)


_WHOLE = "must be a whole number from 1 to 316224000, without quotation marks"
_FLAG = "must be true or false"


def _capture(name: str, more: bytes, field: str, detail: str) -> Case:
    return Case(name, of_hold(more=more), 422, f"{field} {detail}", field)


def _expires(name: str, text: bytes) -> Case:
    return Case(name, hold(more=b',"expires_in":%b' % text), 422, f"expires_in {_WHOLE}", "expires_in")


MALFORMED_HOLDS = (
    _end("no account", b'{"amount":1,"transaction_id":"x"}', "account_id", "is missing"),
    _end("no amount", b'{"account_id":"a","transaction_id":"x"}', "amount", "is missing"),
    _end("no id", b'{"account_id":"a","amount":1}', "transaction_id", "is missing"),
    _end("account is a number", hold(account_id=b"1"), "account_id", "must be a string"),
    _end(
        "account is the outside",
        hold(account_id=b'"@world"'),
        "account_id",
        "must not start with '@': such accounts belong to the ledger",
    ),
    _end("amount is no number", hold(amount=b"true"), "amount", _TYPE),
    _end("id is empty", hold(transaction_id=b'""'), "transaction_id", "must not be empty"),
    _end("an unknown field", hold(more=b',"memo":1'), "memo", "is not a field of this request"),
    _end("expires_in twice", hold(more=b',"expires_in":1,"expires_in":1'), "expires_in", "is given more than once"),
    _expires("no seconds", b"0"),
    _expires("negative seconds", b"-1"),
    _expires("too many seconds", b"316224001"),
    _expires("far too many seconds", b"9" * 100),
    _expires("seconds with decimals", b"1.0"),
    _expires("seconds with an exponent", b"1e2"),
    _expires("seconds as a string", b'"60"'),
    _expires("seconds are null", b"null"),
    _expires("seconds are true", b"true"),
    _expires("seconds are NaN", b"NaN"),
)
MALFORMED_CAPTURES = (
    _end("no id", b"{}", "transaction_id", "is missing"),
    _end("id is null", of_hold(b"null"), "transaction_id", "must be a string"),
    _capture("amount is null", b',"amount":null', "amount", _TYPE),
    _capture("amount is no number", b',"amount":"1,5"', "amount", _GRAMMAR),
    _capture("amount twice", b',"amount":1,"amount":1', "amount", "is given more than once"),
    _capture("target is a number", b',"to_account_id":1', "to_account_id", "must be a string"),
    _capture("target is empty", b',"to_account_id":""', "to_account_id", "must not be empty"),
    _capture("target belongs to the ledger", b',"to_account_id":"@held/a"', "to_account_id", _OUTSIDE),
    _capture("release_rest is a string", b',"release_rest":"true"', "release_rest", _FLAG),
    _capture("release_rest is a number", b',"release_rest":1', "release_rest", _FLAG),
    _capture("release_rest is null", b',"release_rest":null', "release_rest", _FLAG),
    _capture("an unknown field", b',"hold_id":"h1"', "hold_id", "is not a field of this request"),
)
MALFORMED_RELEASES = (
    _end("no id", b"{}", "transaction_id", "is missing"),
    _end("an amount", of_hold(more=b',"amount":1'), "amount", "is not a field of this request"),
    _end("id twice", of_hold(more=b',"transaction_id":"c1"'), "transaction_id", "is given more than once"),
)
