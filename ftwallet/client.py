"""The wallet for Python programs: calls that are tried again, under one transaction id, until their outcome is known.

Whatever dies between this program and the ledger, a call ends in one of three ways. It returns: the money moved, once.
It raises `Rejected`: it did not move, and the same request will get the same answer. It raises `InDoubt`: no answer
came within the deadline, and only another try with the same transaction id, carried by the exception, can tell. All
tries of one call carry one id, drawn before the first is sent, so no try can move money a second time.

    with WalletClient() as wallet:
        wallet.deposit("user123", "1000.00")
        wallet.balance("user123").balance  # Decimal("1000.0")

A transfer moves money between accounts, in one leg or in several that happen together or not at all:

        wallet.transfer("user123", "shop", "99.90")
        wallet.transfer_legs([Leg("user123", "shop", "100.00"), Leg("shop", "fees", "2.90")])

A hold sets money aside, to be captured (paid out, in whole or in parts) or released (given back) later:

        hold = wallet.hold("user123", 30, expires_in=600)
        wallet.capture(hold.transaction_id, 12.5, to_account_id="shop")
        wallet.release(hold.transaction_id)

Many at once go as a batch, of any length; each operation keeps the id that it was made with, also over the end of this
program when the operations are kept:

        salaries = [Operation.deposit(account_id, "1000.00") for account_id in staff]
        tip = Transfer.between("user123", "waiter", "5.00")
        wallet.batch([*salaries, tip], progress=lambda known, total: print(known, "of", total))

Amounts never pass through a binary float: what is given as a float is taken by its shortest decimal form (0.1 is a
tenth), and answers are read as `Decimal`. The pauses between tries are exponential with full jitter, as in Marc
Brooker's "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015), on top of what `Retry-After` asks for.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import logging
import math
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import requests
import tenacity

Amount = int | float | str | Decimal
"""An amount of money in whole units of the currency; a string is sent as it is and read by the server."""

WORLD = "@world"
"""The outside of the wallet, which may stand at either end of a leg: money comes from there, and goes there."""

MAX_BATCH_OPERATIONS = 8_192
"""Most operations of one request; a longer batch is sent in parts."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0

_log = logging.getLogger(__name__)
_BROKEN = (
    requests.Timeout,
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)
_TRY_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)


class WalletError(Exception):
    """What every call may raise; its text is a sentence for a person."""


class Rejected(WalletError):
    """The wallet answered that it does not do this: nothing moved, and trying again changes nothing.

    `status` is the HTTP status, `detail` a sentence, `problem` the whole problem document (RFC 9457; empty if there
    was none), `transaction_id` the id of the call, None for a read.
    """

    def __init__(self, status: int, detail: str, problem: dict[str, Any], transaction_id: str | None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problem = problem
        self.transaction_id = transaction_id


class InDoubt(WalletError):
    """No answer came: the transaction may or may not have happened.

    Call again with `transaction_id`, the same one, to learn which; a new id could move the money twice.
    """

    def __init__(self, transaction_id: str, tries: int, why: str) -> None:
        super().__init__(
            f"transaction {transaction_id} is in doubt after {_counted(tries)} ({why}): it may or may not have "
            "happened; send it again with the same id, never with a new one"
        )
        self.transaction_id = transaction_id


class BatchInDoubt(WalletError):
    """No answer came for a part of a batch: each operation of `rest` may or may not have happened.

    Call `batch` again with `rest`, or with all operations, under the same ids. `receipt` tells of the parts before.
    """

    def __init__(self, receipt: BatchReceipt, rest: Sequence[Operation | Transfer], why: str) -> None:
        super().__init__(
            f"{len(rest)} operations of the batch are in doubt ({why}): they may or may not have happened; send them "
            "again with the same ids, never with new ones"
        )
        self.receipt = receipt
        self.rest = rest


class Unreachable(WalletError):
    """A read got no answer. Nothing was asked to change, so nothing is in doubt."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The wallet's answer to a deposit or withdrawal that is done: durable on every in-sync node, and executed.

    `lsn` is the number of its journal record and `epoch` that of the primary's reign; `durability` is "replicated" or
    "solo" (one node alone holds it for now); `replayed` tells that the id had been answered before. What the server did
    not say is None; it does not know the `new_balance` of an id that was imported without one.
    """

    transaction_id: str
    message: str
    new_balance: Decimal | None
    lsn: int | None
    epoch: int | None
    durability: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class Leg:
    """`amount` from one account to another; `WORLD` may stand at one end."""

    from_account_id: str
    to_account_id: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class TransferReceipt:
    """The wallet's answer to a transfer that is done: all its legs, durable on every in-sync node.

    `balances` are those right after it of all accounts that it touched, by their ids, in the order of the legs and
    without `WORLD`. The rest is as of `Receipt`.
    """

    transaction_id: str
    message: str
    balances: dict[str, Decimal] = field(hash=False)
    lsn: int | None
    epoch: int | None
    durability: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class HoldReceipt:
    """The wallet's answer to a hold that is made; its id is the `transaction_id`.

    `new_balance` is what is available after it, `expires_at` (UTC) the time from which on it cannot be captured, None
    for never. The rest is as of `Receipt`.
    """

    transaction_id: str
    message: str
    new_balance: Decimal | None
    expires_at: datetime | None
    lsn: int | None
    epoch: int | None
    durability: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class SettlementReceipt:
    """The wallet's answer to a capture or a release that is done.

    `captured` is all that was captured of the hold by then, `left` what was left of it. The rest is as of `Receipt`.
    """

    transaction_id: str
    message: str
    captured: Decimal | None
    left: Decimal | None
    lsn: int | None
    epoch: int | None
    durability: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class HoldRecord:
    """A hold as it stands; `status` is "open", "captured", "released" or "expired", all but the first for ever.

    `expires_at` (UTC) is None for never; `lsn` is the number of the newest journal record that this includes.
    """

    hold_id: str
    account_id: str
    amount: Decimal
    captured: Decimal
    left: Decimal
    status: str
    expires_at: datetime | None
    lsn: int | None
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """What an account has: `balance` is available, `held` is on hold, `total` is both; `lsn` as of `Balance`."""

    account_id: str
    balance: Decimal
    held: Decimal
    total: Decimal
    lsn: int | None
    epoch: int | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One movement of a batch. Its id is drawn when it is made, so a second try of the same operation is safe."""

    kind: Literal["deposit", "withdraw"]
    account_id: str
    amount: Amount
    transaction_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def deposit(cls, account_id: str, amount: Amount, transaction_id: str | None = None) -> Self:
        """Add `amount` to an account; None draws an id."""
        return cls("deposit", account_id, amount, _own_id(transaction_id))

    @classmethod
    def withdraw(cls, account_id: str, amount: Amount, transaction_id: str | None = None) -> Self:
        """Take `amount` from an account; None draws an id."""
        return cls("withdraw", account_id, amount, _own_id(transaction_id))


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer of a batch, by its legs; its id is drawn when it is made, as that of an `Operation`."""

    legs: tuple[Leg, ...]
    transaction_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def between(
        cls, from_account_id: str, to_account_id: str, amount: Amount, transaction_id: str | None = None
    ) -> Self:
        """Move `amount` from one account to another; None draws an id."""
        return cls((Leg(from_account_id, to_account_id, amount),), _own_id(transaction_id))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation of a batch that moved nothing, at `index`; the rest as of `Rejected`."""

    index: int
    operation: Operation | Transfer
    status: int
    detail: str
    problem: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BatchReceipt:
    """What became of a batch: of `operations`, all but the `refused` are done, durable on every in-sync node.

    `replayed` is how many ids had been asked before, `lsn` the number of the newest journal record.
    """

    operations: int
    replayed: int
    refused: tuple[Refusal, ...]
    lsn: int | None
    durability: str | None

    @property
    def success(self) -> bool:
        """Whether all operations are done."""
        return not self.refused


@dataclass(frozen=True, slots=True)
class Balance:
    """What is available in an account; `lsn` is the number of the newest journal record that it includes."""

    account_id: str
    balance: Decimal
    message: str
    lsn: int | None
    epoch: int | None


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """What the wallet knows of a transaction id; None where it is not known, or not yet.

    `status` is "PENDING", "COMMITTED" or "ROLLED_BACK"; `success` False means a recorded refusal, such as not enough
    money; `type` is "deposit", "withdraw", "transfer", "hold", "capture" or "release"; times are UTC. A transfer has
    `legs`, whose amounts are Decimals, and `balances`, those right after it (none when it was refused), in the place of
    one account and balance. A hold has `expires_at` (None for never). A capture or a release has its `hold_id`, what it
    `moved`, and what was `captured` of the hold and `left` of it then; a capture alone `to_account_id`, `release_rest`.
    """

    transaction_id: str
    status: str
    success: bool | None
    message: str | None
    type: str | None
    account_id: str | None
    amount: Decimal | None
    new_balance: Decimal | None
    lsn: int | None
    epoch: int | None
    time: datetime | None
    legs: tuple[Leg, ...] = ()
    balances: dict[str, Decimal] = field(default_factory=dict, hash=False)
    expires_at: datetime | None = None
    hold_id: str | None = None
    to_account_id: str | None = None
    release_rest: bool | None = None
    moved: Decimal | None = None
    captured: Decimal | None = None
    left: Decimal | None = None


class WalletClient:
    """A connection to one wallet. Use it in one thread at a time, and close it, or use it in a `with` statement.

    `timeout` (seconds) bounds the connecting and each wait for bytes of one try, `deadline` (seconds) a whole call with
    all its tries and pauses, `max_retries` the tries after the first. `session` is one's own requests session, with
    adapters or headers of its own; it stays open when the client is closed.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        timeout: float = 5.0,
        max_retries: int = 20,
        deadline: float = 30.0,
        session: requests.Session | None = None,
    ) -> None:
        if timeout <= 0 or deadline <= 0 or max_retries < 0:
            raise ValueError("timeout and deadline must be above 0, max_retries at least 0")
        self.base_url = base_url.rstrip("/")
        self._timeout = timeout
        self._max_retries = max_retries
        self._deadline = deadline
        self._owns_session = session is None
        self._session = session or _new_session(self.base_url)

    def deposit(self, account_id: str, amount: Amount, transaction_id: str | None = None) -> Receipt:
        """Add `amount` to an account; the first deposit opens it.

        `transaction_id` is that of an earlier call in doubt; None draws a new one.

        Raises:
            Rejected: it cannot be done; nothing moved.
            InDoubt: no answer came within the deadline.
            ValueError: the amount is NaN or infinite; nothing was sent.
            TypeError: the amount is none; nothing was sent.
        """
        return self._move("/deposit", account_id, amount, transaction_id)

    def withdraw(self, account_id: str, amount: Amount, transaction_id: str | None = None) -> Receipt:
        """Take `amount` from an account. Arguments and errors as of `deposit`."""
        return self._move("/withdraw", account_id, amount, transaction_id)

    def transfer(
        self, from_account_id: str, to_account_id: str, amount: Amount, transaction_id: str | None = None
    ) -> TransferReceipt:
        """Move `amount` from one account to another. The other arguments and the errors are as of `deposit`."""
        return self.transfer_legs([Leg(from_account_id, to_account_id, amount)], transaction_id)

    def transfer_legs(self, legs: Sequence[Leg], transaction_id: str | None = None) -> TransferReceipt:
        """Move money in several legs, one after the other: all of them take effect, or none.

        A `Rejected` names the leg that cannot be done at the end of its `detail`. Errors as of `deposit`.
        """
        own_id = _own_id(transaction_id)
        body = _object(**_legs_fields(legs), transaction_id=_text_json(own_id))
        response = self._call("POST", "/transfer", body.encode("utf-8", "surrogatepass"), own_id)
        answer = _object_in(response)
        return TransferReceipt(own_id, answer["message"], _balances(answer), *_headers(response))

    def hold(
        self, account_id: str, amount: Amount, expires_in: int | None = None, transaction_id: str | None = None
    ) -> HoldReceipt:
        """Set `amount` of an account aside; the hold's id is the transaction's.

        After `expires_in` seconds it cannot be captured any more, and its money goes back; None for never. The other
        arguments and the errors are as of `deposit`.
        """
        own_id = _own_id(transaction_id)
        fields = {"account_id": json.dumps(account_id), "amount": _amount_json(amount)}
        if expires_in is not None:
            fields["expires_in"] = json.dumps(expires_in)
        response = self._call("POST", "/holds", _object(**fields, transaction_id=json.dumps(own_id)), own_id)
        answer = _object_in(response)
        return HoldReceipt(
            own_id,
            answer["message"],
            _optional_decimal(answer["new_balance"]),
            _optional_time(answer.get("expires_at")),
            *_headers(response),
        )

    def capture(
        self,
        hold_id: str,
        amount: Amount | None = None,
        to_account_id: str | None = None,
        release_rest: bool = False,
        transaction_id: str | None = None,
    ) -> SettlementReceipt:
        """Pay `amount` out of a hold, None for all that is left, to an account; None or `WORLD` is the outside.

        `release_rest`: what is left after it goes back at once. The other arguments and the errors are as of `deposit`;
        a `Rejected` with status 409 says that the hold has ended before.
        """
        fields = {}
        if amount is not None:
            fields["amount"] = _amount_json(amount)
        if to_account_id is not None:
            fields["to_account_id"] = json.dumps(to_account_id)
        if release_rest:
            fields["release_rest"] = "true"
        return self._settle(hold_id, "capture", fields, transaction_id)

    def release(self, hold_id: str, transaction_id: str | None = None) -> SettlementReceipt:
        """Give what is left of a hold back to its account. Arguments and errors as of `capture`."""
        return self._settle(hold_id, "release", {}, transaction_id)

    def batch(
        self,
        operations: Sequence[Operation | Transfer],
        *,
        all_or_nothing: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> BatchReceipt:
        """Do many operations in their order, in as few requests as it takes.

        `all_or_nothing`: all of them take effect, or none. `progress` is called after each request, with the number of
        operations whose outcome is known and that of all. The deadline is that of each request.

        Raises:
            Rejected: the whole is refused, such as all_or_nothing with an operation that cannot be done. Of several
                requests, those before it are done: calling again with the same operations tells.
            BatchInDoubt: no answer came within the deadline.
            ValueError: an amount is NaN or infinite, or all_or_nothing has too many operations; nothing was sent.
            TypeError: an amount is none; nothing was sent.
        """
        if all_or_nothing and len(operations) > MAX_BATCH_OPERATIONS:
            raise ValueError(f"an all_or_nothing batch has at most {MAX_BATCH_OPERATIONS} operations")
        texts = [_operation_json(one) for one in operations]
        todo = deque(_parts(0, len(operations), MAX_BATCH_OPERATIONS))
        receipt = BatchReceipt(0, 0, (), None, None)
        while todo:
            begin, end = todo.popleft()
            mode = "all_or_nothing" if all_or_nothing else "independent"
            body = f'{{"mode":"{mode}","reply":"compact","operations":[{",".join(texts[begin:end])}]}}'
            try:
                response = self._call("POST", "/transactions", body.encode("utf-8", "surrogatepass"))
            except Unreachable as error:
                raise BatchInDoubt(receipt, operations[begin:], str(error)) from error
            except Rejected as error:
                if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or all_or_nothing or end - begin == 1:
                    raise
                todo.extendleft(reversed(_parts(begin, end, (end - begin + 1) // 2)))
                continue
            receipt = _with_part(receipt, operations, begin, response)
            if progress is not None:
                progress(end, len(operations))
        return receipt

    def balance(self, account_id: str) -> Balance:
        """Return the balance of an account.

        Raises:
            Rejected: the account is unknown (status 404), or its id malformed (422).
            Unreachable: no answer came within the deadline.
        """
        response = self._call("POST", "/balance", _object(account_id=json.dumps(account_id)))
        answer = _object_in(response)
        return Balance(
            account_id=account_id,
            balance=Decimal(answer["balance"]),
            message=answer["message"],
            lsn=_header_number(response, "FTWallet-LSN"),
            epoch=_header_number(response, "FTWallet-Epoch"),
        )

    def get_hold(self, hold_id: str) -> HoldRecord:
        """Return how a hold stands.

        Raises:
            Rejected: there is no such hold (status 404), or its id is malformed (422).
            Unreachable: no answer came within the deadline.
        """
        response = self._call("GET", f"/holds/{quote(hold_id, safe='')}", sign="hold_id")
        answer = _object_in(response)
        return HoldRecord(
            hold_id=answer["hold_id"],
            account_id=answer["account_id"],
            amount=Decimal(answer["amount"]),
            captured=Decimal(answer["captured"]),
            left=Decimal(answer["left"]),
            status=answer["status"],
            expires_at=_optional_time(answer["expires_at"]),
            lsn=_header_number(response, "FTWallet-LSN"),
            epoch=_header_number(response, "FTWallet-Epoch"),
        )

    def account(self, account_id: str) -> Account:
        """Return what an account has, available and on hold. Errors as of `balance`."""
        response = self._call("GET", f"/accounts/{quote(account_id, safe='')}", sign="account_id")
        answer = _object_in(response)
        return Account(
            account_id=answer["account_id"],
            balance=Decimal(answer["balance"]),
            held=Decimal(answer["held"]),
            total=Decimal(answer["total"]),
            lsn=_header_number(response, "FTWallet-LSN"),
            epoch=_header_number(response, "FTWallet-Epoch"),
        )

    def health(self) -> str:
        """Return "healthy", or what the wallet says instead, such as "initializing"; asks once.

        Raises:
            Unreachable: nothing that speaks for a wallet answers.
        """
        try:
            response = self._send("GET", "/health", None, self._timeout)
        except requests.RequestException as error:
            raise Unreachable(f"no wallet answers at {self.base_url}: {_in_short(error)}") from error
        if "status" not in _object_in(response):
            raise Unreachable(f"what answers at {self.base_url} is no wallet")
        return str(_object_in(response)["status"])

    def transaction(self, transaction_id: str) -> TransactionRecord:
        """Return what the wallet knows of a transaction id, the latest attempt under it.

        Raises:
            Rejected: the id is unknown (status 404), or malformed (422).
            Unreachable: no answer came within the deadline.
        """
        answer = _object_in(self._call("GET", f"/transactions/{quote(transaction_id, safe='')}"))
        return TransactionRecord(
            transaction_id=answer["transaction_id"],
            status=answer["status"],
            success=answer["success"],
            message=answer["message"],
            type=answer["type"],
            account_id=answer["account_id"],
            amount=_optional_decimal(answer["amount"]),
            new_balance=_optional_decimal(answer["new_balance"]),
            lsn=answer["lsn"],
            epoch=answer["epoch"],
            time=_optional_time(answer["time"]),
            legs=tuple(_leg(one) for one in answer.get("legs", ())),
            balances=_balances(answer),
            expires_at=_optional_time(answer.get("expires_at")),
            hold_id=answer.get("hold_id"),
            to_account_id=answer.get("to_account_id"),
            release_rest=answer.get("release_rest"),
            moved=_optional_decimal(answer.get("moved")),
            captured=_optional_decimal(answer.get("captured")),
            left=_optional_decimal(answer.get("left")),
        )

    def close(self) -> None:
        """Close the connections of a session that the client made itself."""
        if self._owns_session:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _move(self, path: str, account_id: str, amount: Amount, transaction_id: str | None) -> Receipt:
        own_id = _own_id(transaction_id)
        body = _object(
            account_id=json.dumps(account_id), amount=_amount_json(amount), transaction_id=json.dumps(own_id)
        )
        response = self._call("POST", path, body, own_id)
        answer = _object_in(response)
        return Receipt(own_id, answer["message"], _optional_decimal(answer["new_balance"]), *_headers(response))

    def _settle(self, hold_id: str, verb: str, fields: dict[str, str], transaction_id: str | None) -> SettlementReceipt:
        own_id = _own_id(transaction_id)
        body = _object(**fields, transaction_id=json.dumps(own_id))
        response = self._call("POST", f"/holds/{quote(hold_id, safe='')}/{verb}", body, own_id)
        answer = _object_in(response)
        captured, left = (_optional_decimal(answer.get(key)) for key in ("captured", "left"))
        return SettlementReceipt(own_id, answer["message"], captured, left, *_headers(response))

    def _call(
        self,
        method: str,
        path: str,
        body: str | bytes | None = None,
        transaction_id: str | None = None,
        sign: str = "success",
    ) -> requests.Response:
        """Try until there is an answer. Raises Rejected, or InDoubt (Unreachable for a read) at the end of patience.

        `sign` is a key by which an answer of the wallet is known.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_NoAnswer),
            stop=tenacity.stop_after_attempt(self._max_retries + 1) | tenacity.stop_before_delay(self._deadline),
            wait=_pause,
            before_sleep=_log_pause,
            reraise=True,
        )
        ends_at = time.monotonic() + self._deadline
        try:
            response: requests.Response = retrying(self._try_once, method, path, body, ends_at, sign)
        except _NoAnswer as last:
            tries = int(retrying.statistics["attempt_number"])
            if transaction_id is None:
                raise Unreachable(f"no answer from {self.base_url} after {_counted(tries)}: {last}") from last
            raise InDoubt(transaction_id, tries, str(last)) from last
        if response.status_code != HTTPStatus.OK:
            raise Rejected(response.status_code, _detail(response), _object_in(response), transaction_id)
        return response

    def _try_once(
        self, method: str, path: str, body: str | bytes | None, ends_at: float, sign: str
    ) -> requests.Response:
        timeout = max(min(self._timeout, ends_at - time.monotonic()), 0.001)
        try:
            response = self._send(method, path, body, timeout)
        except _BROKEN as error:
            raise _NoAnswer(_in_short(error)) from error
        status = response.status_code
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_AGAIN:
            raise _NoAnswer(f"answered {status}: {_detail(response)}", _retry_after_s(response))
        # Something between here and the wallet may answer in its place; that says nothing about the money.
        if status < HTTPStatus.BAD_REQUEST and not (status == HTTPStatus.OK and sign in _object_in(response)):
            raise _NoAnswer(f"answered {status}, but not as a wallet does")
        return response

    def _send(self, method: str, path: str, body: str | bytes | None, timeout: float) -> requests.Response:
        return self._session.request(
            method,
            self.base_url + path,
            data=body,
            headers={"Content-Type": "application/json"} if body else None,
            timeout=timeout,
            allow_redirects=False,  # a redirected POST becomes a GET
        )


class _NoAnswer(Exception):
    """One try ended without an outcome; `retry_after_s` is how long the server asks to wait."""

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


def _pause(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try: what the server asks for, and jitter, or all clients would come back at once."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, _NoAnswer) else 0.0
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(state.attempt_number - 1, 16))
    return asked + random.uniform(0.0, longest)


def _log_pause(state: tenacity.RetryCallState) -> None:
    why = state.outcome.exception() if state.outcome else None
    _log.info("try %d got no answer (%s); next in %.2f s", state.attempt_number, why, state.upcoming_sleep)


def _new_session(base_url: str) -> requests.Session:
    session = requests.Session()
    # A proxy of the environment cannot reach this machine's own wallet.
    session.trust_env = not _is_this_machine(urlsplit(base_url).hostname or "")
    return session


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _object(**fields: str) -> str:
    """Write a JSON object of values that are JSON already, so that the digits of an amount stay as they are."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def _own_id(transaction_id: str | None) -> str:
    return str(uuid.uuid4()) if transaction_id is None else transaction_id


def _legs_fields(legs: Sequence[Leg]) -> dict[str, str]:
    """One leg is spelled out, so that what the wallet says of it names the fields that the caller gave."""
    fields = [
        {
            "from_account_id": _text_json(one.from_account_id),
            "to_account_id": _text_json(one.to_account_id),
            "amount": _amount_json(one.amount),
        }
        for one in legs
    ]
    return fields[0] if len(fields) == 1 else {"legs": f"[{','.join(_object(**one) for one in fields)}]"}


def _amount_json(amount: Amount) -> str:
    if isinstance(amount, bool) or not isinstance(amount, int | float | str | Decimal):
        raise TypeError(f"an amount is an int, float, str or Decimal, not {type(amount).__name__}")
    if isinstance(amount, str):
        return json.dumps(amount)
    if isinstance(amount, int):
        return int.__repr__(amount)
    if not (amount.is_finite() if isinstance(amount, Decimal) else math.isfinite(amount)):
        raise ValueError(f"an amount must be finite, not {amount}")
    return Decimal.__str__(amount) if isinstance(amount, Decimal) else float.__repr__(amount)


def _operation_json(one: Operation | Transfer) -> str:
    transaction_id = _text_json(one.transaction_id)
    if isinstance(one, Transfer):
        return _object(kind='"transfer"', **_legs_fields(one.legs), transaction_id=transaction_id)
    return _object(
        kind=_text_json(one.kind),
        account_id=_text_json(one.account_id),
        amount=_amount_json(one.amount),
        transaction_id=transaction_id,
    )


def _text_json(text: str) -> str:
    """Characters stand for themselves: the wallet reads a body without escapes in half of the time."""
    return json.dumps(text, ensure_ascii=False)


def _parts(begin: int, end: int, size: int) -> list[tuple[int, int]]:
    return [(at, min(at + size, end)) for at in range(begin, end, size)]


def _with_part(
    receipt: BatchReceipt, operations: Sequence[Operation | Transfer], begin: int, response: requests.Response
) -> BatchReceipt:
    """The receipt with the answer of one more request, whose operations are those from `begin` on."""
    answer = _object_in(response)
    refused = tuple(
        Refusal(
            index=begin + one["index"],
            operation=operations[begin + one["index"]],
            status=one["status"],
            detail=str(one["answer"].get("detail", "")),
            problem=one["answer"],
        )
        for one in answer["exceptions"]
    )
    return BatchReceipt(
        operations=receipt.operations + answer["operations"],
        replayed=receipt.replayed + answer["replayed"],
        refused=receipt.refused + refused,
        lsn=max(receipt.lsn or 0, _header_number(response, "FTWallet-LSN") or 0) or None,
        durability=response.headers.get("FTWallet-Durability"),
    )


def _object_in(response: requests.Response) -> dict[str, Any]:
    """Read the body as a JSON object with exact numbers; empty if it is none."""
    try:
        body = json.loads(response.content, parse_float=Decimal)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _detail(response: requests.Response) -> str:
    return str(_object_in(response).get("detail") or response.reason or "no reason given")


def _retry_after_s(response: requests.Response) -> float:
    """Read Retry-After, which holds seconds or a date (RFC 9110, 10.2.3); 0 without a sound one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _header_number(response: requests.Response, name: str) -> int | None:
    value = response.headers.get(name)
    return int(value) if value and value.isascii() and value.isdigit() else None


def _headers(response: requests.Response) -> tuple[int | None, int | None, str | None, bool]:
    """Lsn, epoch, durability, and whether the id had been answered before."""
    return (
        _header_number(response, "FTWallet-LSN"),
        _header_number(response, "FTWallet-Epoch"),
        response.headers.get("FTWallet-Durability"),
        response.headers.get("Idempotent-Replayed") == "true",
    )


def _leg(one: dict[str, Any]) -> Leg:
    return Leg(one["from_account_id"], one["to_account_id"], Decimal(one["amount"]))


def _balances(answer: dict[str, Any]) -> dict[str, Decimal]:
    return {one["account_id"]: Decimal(one["new_balance"]) for one in answer.get("balances", ())}


def _optional_decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _optional_time(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def _in_short(error: Exception) -> str:
    if isinstance(error, requests.ConnectTimeout):
        return "the connection was not made in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if "refused" in str(error):
        return "nothing listens there"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return "the connection was lost"
    return str(error)


def _counted(tries: int) -> str:
    return "1 try" if tries == 1 else f"{tries} tries"
