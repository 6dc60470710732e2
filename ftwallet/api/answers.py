"""The reply to a transaction, and the bodies of answers that are no problems.

They are compact JSON with exactly the contract's keys, in its order, and exact digits.
Amounts are written as JSON numbers from integers of minor units; no float is anywhere on the way, which is why the
bodies are put together by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ftwallet.api import problems
from ftwallet.api.reply import JSON, Reply, framed, standing
from ftwallet.ledger.holds import Hold, capture_terms, expires_us, hold_terms, release_terms
from ftwallet.ledger.legs import accounts_of, decode_legs
from ftwallet.ledger.money import format_amount
from ftwallet.ledger.operations import Kind
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction, sentence
from ftwallet.wallet import Answer

HEALTHY: Final = b'{"status":"healthy"}'
INITIALIZING: Final = b'{"status":"initializing"}'

_NOTHING_FOR_ZERO: Final = frozenset({Kind.TRANSFER, Kind.CAPTURE, Kind.RELEASE})
"""Kinds whose amount stands elsewhere, or was left out, when it is 0 on record."""

_encode: Final = msgspec.json.Encoder().encode
_BEGINNING_OF_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def reply_of(answer: Answer, exponent: int) -> Reply:
    """The reply to whoever asked for a transaction, alone or in a batch: done, refused, or an id used before."""
    transaction = answer.transaction
    if answer.differs is not None:
        return problems.id_reused(transaction.transaction_id, answer.differs)
    if transaction.code is not OutcomeCode.OK:
        return problems.refused(answer, exponent)
    where = standing(transaction.lsn, transaction.epoch, answer.mode, answer.replayed)
    return framed(200, JSON, movement_body(transaction, exponent), where)


def movement_body(transaction: Transaction, exponent: int) -> bytes:
    """Body of a movement that was done."""
    said, extra = sentence(transaction, exponent), transaction.extra
    if not extra:  # deposits and withdrawals, the most
        return done_body(said, transaction.new_balance, transaction.transaction_id, exponent)
    kind, transaction_id = transaction.kind, transaction.transaction_id
    if kind is Kind.TRANSFER:
        return transfer_body(said, extra, transaction.figures, transaction_id, exponent)
    if kind is Kind.HOLD:
        return held_body(said, transaction, exponent)
    return b'{"success":true,"message":%b,%b,"transaction_id":%b}' % (
        _encode(said),
        _hold_figures(transaction.figures[1:], exponent),
        _encode(transaction_id),
    )


def done_body(sentence: str, new_balance: int | None, transaction_id: str, exponent: int) -> bytes:
    """The same, of what is known of it."""
    return b'{"success":true,"message":%b,"new_balance":%b,"transaction_id":%b}' % (
        _encode(sentence),
        _number(new_balance, exponent),
        _encode(transaction_id),
    )


def transfer_body(said: str, legs: bytes, balances: Sequence[int], transaction_id: str, exponent: int) -> bytes:
    """The same of a transfer, whose `legs` are encoded: all balances that it has changed."""
    return b'{"success":true,"message":%b,"balances":%b,"transaction_id":%b}' % (
        _encode(said),
        _balances(legs, balances, exponent),
        _encode(transaction_id),
    )


def held_body(said: str, transaction: Transaction, exponent: int) -> bytes:
    """The same of a hold."""
    return b'{"success":true,"message":%b,"new_balance":%b,"expires_at":%b,"transaction_id":%b}' % (
        _encode(said),
        _number(transaction.new_balance, exponent),
        _expiry(expires_us(hold_terms(transaction.extra), transaction.time_us)),
        _encode(transaction.transaction_id),
    )


def hold_body(hold_id: str, hold: Hold, exponent: int) -> bytes:
    """Body of a hold as it stands."""
    return (b'{"hold_id":%b,"account_id":%b,"amount":%b,"captured":%b,"left":%b,"status":"%b","expires_at":%b}') % (
        _encode(hold_id),
        _encode(hold.account_id),
        _number(hold.amount, exponent),
        _number(hold.captured, exponent),
        _number(hold.left, exponent),
        hold.state.name.lower().encode("ascii"),
        _expiry(hold.expires_us),
    )


def account_body(account_id: str, balance: int, held: int, exponent: int) -> bytes:
    """Body of an account: what is available, what is on hold, and both."""
    return b'{"account_id":%b,"balance":%b,"held":%b,"total":%b}' % (
        _encode(account_id),
        _number(balance, exponent),
        _number(held, exponent),
        _number(balance + held, exponent),
    )


def balance_body(balance: int, exponent: int) -> bytes:
    """Body of a balance, in minor units."""
    return b'{"success":true,"balance":%b,"message":"Balance retrieved"}' % _number(balance, exponent)


def transaction_body(transaction: Transaction, exponent: int) -> bytes:
    """Body of what is known of a transaction; null where it is not known, or not yet."""
    pending = transaction.status is Status.PENDING
    kind = transaction.kind
    said = sentence(transaction, exponent)
    amount = transaction.amount
    if kind in _NOTHING_FOR_ZERO:
        amount = amount or None
    return (
        b'{"transaction_id":%b,"status":%b,"success":%b,"message":%b,"type":%b,"account_id":%b,"amount":%b,'
        b'"new_balance":%b,"lsn":%b,"epoch":%b,"time":%b%b}'
    ) % (
        _encode(transaction.transaction_id),
        _encode(transaction.status.value),
        _encode(None if pending else transaction.success),
        _encode(None if pending else said),
        _encode(None if kind is None else kind.name.lower()),
        _encode(transaction.account_id or None),
        _number(amount, exponent),
        _number(None if pending else transaction.new_balance, exponent),
        _positive(transaction.lsn),
        _positive(transaction.epoch),
        _encode(_rfc3339(transaction.time_us) if transaction.time_us > 0 else None),
        _terms(transaction, exponent),
    )


def _terms(transaction: Transaction, exponent: int) -> bytes:
    """The keys that only some kinds have."""
    extra, figures = transaction.extra, transaction.figures
    match transaction.kind:
        case Kind.TRANSFER:
            return b',"legs":%b,"balances":%b' % (_legs(extra, exponent), _balances(extra, figures, exponent))
        case Kind.HOLD:
            return b',"expires_at":%b' % _expiry(expires_us(hold_terms(extra), transaction.time_us))
        case Kind.CAPTURE:
            terms = capture_terms(extra)
            return b',"hold_id":%b,"to_account_id":%b,"release_rest":%b,"moved":%b,%b' % (
                _encode(terms.hold_id),
                _encode(terms.target),
                _encode(terms.release_rest),
                _number(figures[0] if figures else None, exponent),
                _hold_figures(figures[1:], exponent),
            )
        case Kind.RELEASE:
            return b',"hold_id":%b,"moved":%b,%b' % (
                _encode(release_terms(extra).hold_id),
                _number(figures[0] if figures else None, exponent),
                _hold_figures(figures[1:], exponent),
            )
    return b""


def _hold_figures(figures: Sequence[int], exponent: int) -> bytes:
    """What is captured of a hold and what is left of it; nothing is known of a refusal."""
    captured, left = figures or (None, None)
    return b'"captured":%b,"left":%b' % (_number(captured, exponent), _number(left, exponent))


def _expiry(time_us: int) -> bytes:
    return _encode(_rfc3339(time_us) if time_us else None)


def _legs(legs: bytes, exponent: int) -> bytes:
    return b"[%b]" % b",".join(
        b'{"from_account_id":%b,"to_account_id":%b,"amount":%b}'
        % (_encode(one.source), _encode(one.target), _number(one.amount, exponent))
        for one in decode_legs(legs)
    )


def _balances(legs: bytes, balances: Sequence[int], exponent: int) -> bytes:
    """An array of accounts with their balances right after a transfer; empty when it was refused."""
    return b"[%b]" % b",".join(
        b'{"account_id":%b,"new_balance":%b}' % (_encode(account_id), _number(balance, exponent))
        for account_id, balance in zip(accounts_of(decode_legs(legs)), balances, strict=False)
    )


def _number(minor: int | None, exponent: int) -> bytes:
    return b"null" if minor is None else format_amount(minor, exponent).encode("ascii")


def _positive(number: int) -> bytes:
    """An lsn or an epoch; both begin at 1, so 0 means that there is none yet."""
    return b"%d" % number if number > 0 else b"null"


def _rfc3339(time_us: int) -> str:
    moment = _BEGINNING_OF_TIME + timedelta(microseconds=time_us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
