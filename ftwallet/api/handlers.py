"""The calls themselves, as coroutines from headers and a body to a reply; short cut and FastAPI's routes share them.

A request is checked in the order that `decode.py` gives, and only then shown to the wallet. The wallet keeps the
request's time-out: nothing here waits for anything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from ftwallet.api import problems
from ftwallet.api.answers import (
    HEALTHY,
    INITIALIZING,
    account_body,
    balance_body,
    hold_body,
    reply_of,
    transaction_body,
)
from ftwallet.api.batches import answer_batch
from ftwallet.api.decode import (
    AmountRefused,
    Headers,
    Malformed,
    decode_balance,
    decode_movement,
    decode_path_id,
    idempotency_key,
)
from ftwallet.api.hold_body import decode_capture, decode_hold, decode_release
from ftwallet.api.reply import JSON, Header, Reply, framed, standing
from ftwallet.api.transfer_body import decode_transfer
from ftwallet.ledger.holds import HELD
from ftwallet.ledger.identifiers import account_id_problem
from ftwallet.ledger.money import MAX_STORED, AmountProblem
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.rules import Rules
from ftwallet.wallet import Unavailable, Wallet

Handler = Callable[[Headers, bytes], Awaitable[Reply]]
"""Request headers (names in lower case) and a whole body in, a reply out."""


class Hot(NamedTuple):
    """A call of the hot path and the longest body that it takes."""

    handler: Handler
    max_body_bytes: int


Decode = Callable[[bytes, str | None, Rules], tuple[Body, str]]
"""A body and the Idempotency-Key in, what is asked and its transaction id out. Raises Malformed or AmountRefused."""


class Handlers:
    """The calls on `wallet`, which may be exchanged; those that POST to a path without an id are Handlers."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.deposit: Handler = partial(self._ask, partial(_decode_movement, Kind.DEPOSIT))
        self.withdraw: Handler = partial(self._ask, partial(_decode_movement, Kind.WITHDRAW))

    async def transfer(self, headers: Headers, body: bytes) -> Reply:
        """Move money from account to account."""
        return await self._ask(decode_transfer, headers, body)

    async def hold(self, headers: Headers, body: bytes) -> Reply:
        """Set money aside."""
        return await self._ask(decode_hold, headers, body)

    async def capture(self, raw_hold_id: bytes, headers: Headers, body: bytes) -> Reply:
        """Pay out of a hold, whose id is as bytes, percent-decoded."""
        return await self._ask(partial(decode_capture, _text(raw_hold_id)), headers, body)

    async def release(self, raw_hold_id: bytes, headers: Headers, body: bytes) -> Reply:
        """Give back what is left of a hold, whose id is as bytes, percent-decoded."""
        return await self._ask(partial(decode_release, _text(raw_hold_id)), headers, body)

    async def _ask(self, decode: Decode, headers: Headers, body: bytes) -> Reply:
        try:
            asked, transaction_id = self._decode(decode, headers, body)
        except Malformed as error:
            return problems.malformed(error)
        except AmountRefused as error:
            return problems.amount_refused(error)
        return await self._submit(asked, transaction_id)

    async def _submit(self, body: Body, transaction_id: str) -> Reply:
        kind, account_id, amount, extra = body
        try:
            answer = await self.wallet.submit(kind, account_id, amount, transaction_id, extra)
        except Unavailable as error:
            return problems.unavailable(error, transaction_id)
        return reply_of(answer, self.wallet.rules.exponent)

    def _decode(self, decode: Decode, headers: Headers, body: bytes) -> tuple[Body, str]:
        rules, key = self.wallet.rules, idempotency_key(headers)
        try:
            return decode(body, key, rules)
        except AmountRefused as error:
            if error.code is not AmountProblem.OVER_LIMIT or self.wallet.find(error.transaction_id) is None:
                raise
        # The id was used before the limit was lowered: it keeps its answer, and a retry must learn it.
        return decode(body, key, rules._replace(max_amount=MAX_STORED))

    async def balance(self, headers: Headers, body: bytes) -> Reply:
        """Balance of one account."""
        try:
            account_id = decode_balance(body)
        except Malformed as error:
            return problems.malformed(error)
        wallet = self.wallet
        if not wallet.ready:
            return _not_serving()
        await wallet.bring_in((account_id,))
        balance = wallet.balance(account_id)
        where = self._read_standing()
        if balance is None:
            return problems.account_not_found(where)
        return framed(200, JSON, balance_body(balance, wallet.rules.exponent), where)

    async def batch(self, headers: Headers, body: bytes) -> Reply:
        """Many operations at once; each carries its own transaction id, so no header stands in for one."""
        return await answer_batch(self.wallet, body)

    async def transaction(self, raw_id: bytes) -> Reply:
        """What is known of one transaction; `raw_id` is its id as bytes, percent-decoded."""
        try:
            transaction_id = decode_path_id(raw_id, "transaction_id")
        except Malformed as error:
            return problems.malformed(error)
        wallet = self.wallet
        if not wallet.ready:
            return _not_serving()
        await wallet.bring_in(transaction_id=transaction_id)
        transaction = wallet.find(transaction_id)
        where = self._read_standing()
        if transaction is None:
            return problems.transaction_not_found(transaction_id, where)
        return framed(200, JSON, transaction_body(transaction, wallet.rules.exponent), where)

    async def get_hold(self, raw_id: bytes) -> Reply:
        """How a hold stands; `raw_id` is its id as bytes, percent-decoded."""
        try:
            hold_id = decode_path_id(raw_id, "hold_id")
        except Malformed as error:
            return problems.malformed(error)
        wallet = self.wallet
        if not wallet.ready:
            return _not_serving()
        await wallet.bring_in(hold_id=hold_id)
        hold = wallet.hold(hold_id)
        where = self._read_standing()
        if hold is None:
            return problems.hold_not_found(where)
        return framed(200, JSON, hold_body(hold_id, hold, wallet.rules.exponent), where)

    async def account(self, raw_id: bytes) -> Reply:
        """What an account has, available and on hold; `raw_id` is its id as bytes, percent-decoded."""
        try:
            account_id = decode_path_id(raw_id, "account_id", account_id_problem)
        except Malformed as error:
            return problems.malformed(error)
        wallet = self.wallet
        if not wallet.ready:
            return _not_serving()
        await wallet.bring_in((account_id, HELD + account_id))
        balance, held = wallet.balance(account_id), wallet.balance(HELD + account_id)
        where = self._read_standing()
        if balance is None:
            return problems.account_not_found(where)
        return framed(200, JSON, account_body(account_id, balance, held or 0, wallet.rules.exponent), where)

    async def health(self) -> Reply:
        """Whether this node is the primary and serves."""
        if self.wallet.ready:
            return framed(200, JSON, HEALTHY, [])
        return framed(503, JSON, INITIALIZING, [(b"retry-after", b"1")])

    def _read_standing(self) -> list[Header]:
        """Headers of a read: the lsn that it was made at."""
        wallet = self.wallet
        return standing(wallet.applied_lsn, wallet.epoch, wallet.mode)


def _decode_movement(kind: Kind, body: bytes, key: str | None, rules: Rules) -> tuple[Body, str]:
    account_id, amount, transaction_id = decode_movement(body, key, rules)
    return Body(kind, account_id, amount), transaction_id


def _text(raw: bytes) -> str:
    """An id of a path; bytes that are not UTF-8 come out as characters that no id may have."""
    return raw.decode("utf-8", "surrogateescape")


def _not_serving() -> Reply:
    return problems.unavailable(
        Unavailable("The wallet is starting, recovering or without a primary", in_doubt=False), transaction_id=None
    )
