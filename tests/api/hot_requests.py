"""Requests of the hot path that must be answered alike, to the byte, by the short cut and by FastAPI's routes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.api.cases import (
    GOOD,
    GOOD_TRANSFER,
    MALFORMED_BALANCES,
    MALFORMED_CAPTURES,
    MALFORMED_HOLDS,
    MALFORMED_MOVEMENTS,
    MALFORMED_RELEASES,
    MALFORMED_TRANSFERS,
    MAX_BODY,
    MOVEMENTS,
    REFUSED_AMOUNTS,
    hold,
    leg,
    legs,
    movement,
    of_hold,
)

Request = tuple[str, bytes, tuple[tuple[str, str], ...]]


def hot_requests() -> Iterator[Request]:
    """All the bad ones, and a story of good ones, refused ones and replays."""
    for path in MOVEMENTS:
        for case in (*MALFORMED_MOVEMENTS, *REFUSED_AMOUNTS):
            yield path, case.body, case.headers
    for case in MALFORMED_BALANCES:
        yield "/balance", case.body, case.headers
    for path in ("/withdraw", "/deposit", "/balance"):
        for body in (
            GOOD,
            GOOD,
            movement(amount=b"2"),
            movement(transaction_id=b'"t2"'),
            movement(account_id=b'"poor"', transaction_id=b'"t3"'),
            movement(amount=b"10000000000000000", transaction_id=b'"t4"'),
            b'{"account_id":"user123"}',
            b'{"account_id":"nobody"}',
            b"[" * (MAX_BODY + 1),
        ):
            yield path, body, ()
            yield path, body, (("Idempotency-Key", "t1"),)
    yield from _transfers()
    yield from _holds()
    yield from _batches()


def _transfers() -> Iterator[Request]:
    for case in MALFORMED_TRANSFERS:
        yield "/transfer", case.body, ()
    for body in (
        GOOD_TRANSFER,
        GOOD_TRANSFER,
        legs(leg(), leg(source=b'"bob"', amount=b"0.5")),
        legs(leg(), leg(source=b'"bob"', amount=b"0.5"), transaction_id=b'"x2"'),
        legs(leg(), leg(source=b'"bob"', amount=b"1e9"), transaction_id=b'"x3"'),
        legs(leg(amount=b"-1"), transaction_id=b'"x4"'),
    ):
        yield "/transfer", body, ()
        yield "/transfer", body, (("Idempotency-Key", "x1"),)


def _holds() -> Iterator[Request]:
    for case in MALFORMED_HOLDS:
        yield "/holds", case.body, ()
    yield "/deposit", movement(amount=b"100", transaction_id=b'"money"'), ()
    for hold_id in (b'"h1"', b'"a/b"', '"ü"'.encode()):
        yield "/holds", hold(amount=b"10", transaction_id=hold_id, more=b',"expires_in":60'), ()
    yield "/holds", hold(amount=b"1e9", transaction_id=b'"h4"'), ()
    for path in ("/holds/h1", "/holds/a/b", "/holds/a%2Fb", "/holds/%C3%BC", "/holds/h4", "/holds/", "/holds/%FF"):
        for at, more in enumerate((b',"amount":1', b',"amount":100', b',"release_rest":true', b"")):
            body = of_hold(b'"c%d"' % at, more)
            yield f"{path}/capture", body, ()
            yield f"{path}/capture", body.replace(b'"c', b'"%b/c' % path[-2:].encode()), ()
        yield f"{path}/release", of_hold(b'"r"'), ()
        yield f"{path}/release", b"{}", (("Idempotency-Key", f"{path}/r"),)
        yield f"{path}/release", b"[" * (MAX_BODY + 1), ()
    for case in MALFORMED_CAPTURES:
        yield "/holds/h1/capture", case.body, ()
    for case in MALFORMED_RELEASES:
        yield "/holds/h1/release", case.body, ()


def _batches() -> Iterator[Request]:
    """Each body twice: the second time it is a retry."""
    operations = [b'{"kind":"deposit",' + case.body[1:] for case in MALFORMED_MOVEMENTS if case.field == "account_id"]
    good = b'{"kind":"withdraw",' + movement(transaction_id=b'"b1"')[1:]
    for mode in (b'"independent"', b'"all_or_nothing"', b'"neither"'):
        for reply in (b'"full"', b'"compact"'):
            for some in ([good], [good, good], [good, *operations], [], [b"1"]):
                body = b'{"mode":%b,"reply":%b,"operations":[%b]}' % (mode, reply, b",".join(some))
                yield "/transactions", body, ()
                yield "/transactions", body, ()
