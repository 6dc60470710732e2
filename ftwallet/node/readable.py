"""The readable files: `<role>_wallets.json` and `<role>_transactions.json`, written for people, read by `import`.

    wallets       {"user123": 1000.5}
    transactions  {"txn-1": {"status": "COMMITTED", "success": true, "message": "Deposited 1000.5", "type": "deposit",
                             "account_id": "user123", "amount": 1000.5, "new_balance": 1000.5, "lsn": 1, "epoch": 1,
                             "time": "2026-01-31T12:00:00.000000Z"}}

A transfer has `legs` and `balances` beside that, holds and what ends them have keys of their own, as
`GET /transactions/{id}` has them. A balance in the first file is all that the account has, money on hold too: holds
themselves are not in the files, and what they held comes in as available.

Amounts are exact decimals. A file replaces its elder whole or not at all; it is never the source of truth. On import
only `status` and `success` of a transaction must be there; one without type, account or amount matches by id alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from ftwallet import platform
from ftwallet.api.answers import transaction_body
from ftwallet.config import Config
from ftwallet.errors import ClientError, DiskFault
from ftwallet.ledger.identifiers import account_id_problem, transaction_id_problem
from ftwallet.ledger.imports import imported_balance, imported_transaction
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.money import format_amount
from ftwallet.ledger.operations import Kind, Operation, rolled_back
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, Transaction, message
from ftwallet.ledger.rules import Rules
from ftwallet.node.readable_bodies import Entry, body_of, figures_of, minor, time_us_of

_MEMBERS = 1_000
_TOLD_BY_ITS_SENTENCE = (
    OutcomeCode.INSUFFICIENT_BALANCE,
    OutcomeCode.ACCOUNT_NOT_FOUND,
    OutcomeCode.GROUP_REFUSED,
    OutcomeCode.HOLD_NOT_FOUND,
    OutcomeCode.HOLD_CAPTURED,
    OutcomeCode.HOLD_RELEASED,
    OutcomeCode.HOLD_EXPIRED,
    OutcomeCode.OVER_HOLD,
)
_REFUSED = {message(None, Outcome(code), exponent=0): code for code in _TOLD_BY_ITS_SENTENCE}
_OVER_HOLD = "The hold has only "  # and the amount that was left, which is not kept


class Content(NamedTuple):
    """A ledger at one lsn: accounts with all they have in minor units, transactions, and the currency's decimals."""

    accounts: Iterator[tuple[str, int]]
    transactions: Iterator[Transaction]
    exponent: int


class Imported(NamedTuple):
    """How much an import took in."""

    accounts: int
    transactions: int


def collect(ledger: Ledger) -> Content:
    """The ledger as it is at this call; it may go on at once."""
    return Content(ledger.export_totals(), ledger.transactions(), ledger.rules.exponent)


def missing(ledger: Ledger, operations: Sequence[Operation]) -> list[Operation]:
    """What an import still has to bring: all of it for an empty ledger, the rest after one that a crash cut short.

    Raises ClientError when the ledger holds anything that the files do not, or that differs from them.
    """
    balances = {one.account_id: one.amount for one in operations if one.kind == Kind.IMPORTED_BALANCE}
    ids = {one.transaction_id for one in operations if one.kind != Kind.IMPORTED_BALANCE}
    alien = any(balances.get(name) != balance for name, balance in ledger.export_accounts())
    if alien or any(one.transaction_id not in ids for one in ledger.transactions()):
        raise ClientError("the ledger is not empty: import takes files into a new data directory only")
    return [one for one in operations if not _is_there(ledger, one)]


def _is_there(ledger: Ledger, one: Operation) -> bool:
    if one.kind == Kind.IMPORTED_BALANCE:
        return ledger.balance(one.account_id) is not None
    return ledger.find(one.transaction_id) is not None


def write_files(directory: Path, role: str, content: Content) -> list[Path]:
    """Write both files of a role; returns their paths. Raises DiskFault."""
    accounts = ((name, format_amount(minor, content.exponent)) for name, minor in content.accounts)
    transactions = ((one.transaction_id, _document(one, content.exponent)) for one in content.transactions)
    return [
        _write_object(directory / f"{role}_wallets.json", accounts),
        _write_object(directory / f"{role}_transactions.json", transactions),
    ]


async def write_at_stop(config: Config, role: str, ledger: Ledger) -> None:
    """Write both files, unless the ledger is so large that the stop would have to wait for them."""
    if ledger.applied_lsn > config.readable_records:
        structlog.get_logger().info(
            f"The readable files are not written, for the log has more than {config.readable_records} records; "
            "`ftwallet-run export` writes them"
        )
        return
    await asyncio.to_thread(write_files, config.data_dir, role, collect(ledger))


def transaction_document(transaction: Transaction, exponent: int) -> msgspec.Raw:
    """What `FindTransaction` and `GET /transactions/{id}` tell of a transaction."""
    return msgspec.Raw(transaction_body(transaction, exponent))


def read_files(wallets: Path, transactions: Path | None, rules: Rules) -> tuple[list[Operation], Imported]:
    """The operations that bring an empty ledger to what the readable files say. Raises ClientError.

    Nothing among them is refused by a ledger with these rules: an import is whole, or not begun.
    """
    now_us = time.time_ns() // 1000
    balances = [_account(wallets, name, text, rules, now_us) for name, text in _read_object(wallets).items()]
    past: list[Operation] = []
    if transactions is not None:
        past = [_transaction(transactions, *item, rules.exponent) for item in _read_object(transactions).items()]
    return [*balances, *past], Imported(len(balances), len(past))


# ---- Writing


def _document(transaction: Transaction, exponent: int) -> str:
    whole = transaction_body(transaction, exponent).decode()
    return "{" + whole[whole.index('"status"') :]  # the id is the key


def _write_object(path: Path, items: Iterator[tuple[str, str]]) -> Path:
    """Write a JSON object, one member a line, from keys and encoded values."""
    try:
        platform.write_pieces_atomically(path, _pieces(items))
    except OSError as error:
        raise DiskFault(f"{path} could not be written: {error.strerror}") from error
    return path


def _pieces(items: Iterator[tuple[str, str]]) -> Iterator[bytes]:
    first = True
    while members := list(islice(items, _MEMBERS)):
        body = ",\n".join(f"  {json.dumps(key, ensure_ascii=False)}: {value}" for key, value in members)
        yield (("{\n" if first else ",\n") + body).encode()
        first = False
    yield b"{}\n" if first else b"\n}\n"


# ---- Reading


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), parse_float=str, parse_int=str, object_pairs_hook=_unique)
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ClientError(f"{path} is not a readable file of this kind: {error}") from error
    if not isinstance(content, dict):
        raise ClientError(f"{path} must hold one JSON object")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _account(path: Path, name: str, text: object, rules: Rules, now_us: int) -> Operation:
    problem = account_id_problem(name)
    if problem:
        raise ClientError(f"{path}: account id {name!r} {problem}")
    balance = minor(path, name, text, rules.exponent)
    if balance > rules.max_balance:
        limit = format_amount(rules.max_balance, rules.exponent)
        raise ClientError(f"{path}: the balance of {name!r} is over the limit of {limit}: raise max_balance first")
    return imported_balance(name, balance, now_us)


def _transaction(path: Path, transaction_id: str, document: Any, exponent: int) -> Operation:
    problem = transaction_id_problem(transaction_id)
    if problem:
        raise ClientError(f"{path}: transaction id {transaction_id!r} {problem}")
    if not isinstance(document, dict) or not {"status", "success"} <= document.keys():
        raise ClientError(f"{path}: {transaction_id!r} must have the keys status and success")
    entry = Entry(path, transaction_id, document, exponent)
    time_us = time_us_of(entry, "time")
    body = body_of(entry)
    if document["status"] == Status.ROLLED_BACK:
        return rolled_back(transaction_id, None, time_us)
    if document["status"] != Status.COMMITTED:
        raise entry.refuse(f"has status {document['status']!r}: only what is done can come in")
    code, leg = _outcome(document)
    after = None if document.get("new_balance") is None else entry.minor("new_balance")
    return imported_transaction(transaction_id, code, time_us, body, after, figures_of(entry, body), leg)


def _outcome(document: dict[str, Any]) -> tuple[OutcomeCode, int | None]:
    """What became of it, and the place of the leg that refused it."""
    if document["success"] is True:
        return OutcomeCode.OK, None
    sentence, _, place = str(document.get("message")).partition(" (legs[")
    leg = int(place[:-2]) if place[:-2].isdecimal() else None
    if sentence.startswith(_OVER_HOLD):
        return OutcomeCode.OVER_HOLD, None
    return _REFUSED.get(sentence, OutcomeCode.REFUSED_BEFORE_IMPORT), leg
