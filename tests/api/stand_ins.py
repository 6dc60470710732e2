"""A wallet in memory over the real ledger, and a client that speaks ASGI with no library in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Scope

from ftwallet.ledger.holds import Hold
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation, group, operation
from ftwallet.ledger.outcomes import Outcome, OutcomeCode, Status, Transaction, first_difference, outcome_of
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.wallet import Answer, BatchAnswer, BatchMismatch, Movement

NOON_US = 1_763_985_600_000_000  # 2025-11-24T12:00:00Z
EPOCH = 3


class MemoryWallet:
    """The port of a node, without a node: one copy, every block holds one operation, answers come at once."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.ledger = Ledger(rules or Rules(), MemoryState())
        self.ready = True
        self.mode = "paired"
        self.epoch = EPOCH
        self.fault: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.under_way: dict[str, Operation] = {}

    @property
    def rules(self) -> Rules:
        return self.ledger.rules

    @property
    def applied_lsn(self) -> int:
        return self.ledger.applied_lsn

    async def submit(self, kind: Kind, account_id: str, amount: int, transaction_id: str, extra: bytes = b"") -> Answer:
        if self.fault is not None:
            raise self.fault
        asked = operation(kind, transaction_id, account_id, amount, NOON_US, extra)
        if self.gate is not None:
            self.under_way[transaction_id] = asked
            await self.gate.wait()
        found = self.ledger.find(transaction_id)
        replayed = found is not None and found.status is Status.COMMITTED
        if not replayed:
            self.apply(asked)
            found = self.ledger.find(transaction_id)
        assert found is not None
        return Answer(found, replayed, self.mode, first_difference(found, asked.body))

    async def submit_batch(
        self, slices: Iterable[Sequence[Movement]], count: int, *, all_or_nothing: bool
    ) -> BatchAnswer:
        if self.fault is not None:
            raise self.fault
        movements = [movement for some in slices for movement in some]
        assert len(movements) <= count
        if all_or_nothing and self._is_new_group(movements):
            asked = {movement[3]: _asked(movement) for movement in movements}
            self.apply(group(len(asked), NOON_US), *asked.values())
            answers = [await self.submit(*movement) for movement in movements]
            told = _Told([_result(answer) for answer in answers], [answer.transaction.lsn for answer in answers])
        else:
            told = _Told()
            for movement in movements:
                answer = await self.submit(*movement)
                told.results.append(_result(answer))
                told.lsns.append(answer.transaction.lsn)
        return BatchAnswer(told.results, told.lsns, max(told.lsns, default=0), self.epoch, self.mode)

    def _is_new_group(self, movements: Sequence[Movement]) -> bool:
        is_new = any(self.ledger.find(movement[3]) is None for movement in movements)
        first: dict[str, Movement] = {}
        done: set[bool] = set()
        for place, movement in enumerate(movements):
            known = self.ledger.find(movement[3])
            if known is not None and is_new:  # whatever its body was, as by the nodes
                raise BatchMismatch(place, movement[3])
            recorded = known or _pending(_asked(first.setdefault(movement[3], movement)))
            differs = first_difference(recorded, _asked(movement).body)
            if differs is not None:
                raise BatchMismatch(place, movement[3], differs)
            done.add(recorded.success)
            if len(done) > 1:
                raise BatchMismatch(place, movement[3])
        return is_new

    def apply(self, *operations: Operation) -> None:
        self.ledger.apply(self.applied_lsn + 1, self.epoch, operations)

    async def bring_in(self, account_ids: Sequence[str] = (), transaction_id: str = "", hold_id: str = "") -> None:
        pass

    def hold(self, hold_id: str) -> Hold | None:
        return self.ledger.hold(hold_id)

    def balance(self, account_id: str) -> int | None:
        return self.ledger.balance(account_id)

    def find(self, transaction_id: str) -> Transaction | None:
        asked = self.under_way.get(transaction_id)
        if asked is None:
            return self.ledger.find(transaction_id)
        return _pending(asked)


@dataclass
class _Told:
    results: list[Outcome | Answer] = field(default_factory=list)
    lsns: list[int] = field(default_factory=list)


def _asked(movement: Movement) -> Operation:
    kind, account_id, amount, transaction_id, extra = movement
    return operation(kind, transaction_id, account_id, amount, NOON_US, extra)


def _result(answer: Answer) -> Outcome | Answer:
    """As a node tells it of a batch."""
    if answer.replayed or answer.transaction.extra:
        return answer
    return outcome_of(answer.transaction)


def _pending(asked: Operation) -> Transaction:
    kind, account_id, amount, extra = asked.body
    return Transaction(
        asked.transaction_id, kind, account_id, amount, OutcomeCode.OK, None, 0, 0, NOON_US, Status.PENDING, extra=extra
    )


class Got(NamedTuple):
    """A response: headers in order, names as they were sent."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is given more than once"
        return values[0] if values else None


class NothingSent(Exception):
    """The application returned without a response."""


async def ask(
    app: ASGIApp,
    method: str,
    path: str,
    body: bytes | Sequence[bytes] = b"",
    headers: Iterable[tuple[str, str]] = (),
    *,
    declare_length: bool = True,
    hang_up: bool = False,
) -> Got:
    """One request; a sequence of bytes is streamed in parts, `hang_up` disconnects instead of the last of them."""
    parts = [body] if isinstance(body, bytes) else list(body)
    lines = [(name.lower().encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    if declare_length:
        lines.append((b"content-length", b"%d" % sum(map(len, parts))))
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)} for number, part in enumerate(parts, 1)
    ]
    if hang_up:
        messages[-1] = {"type": "http.disconnect"}
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(_scope(method, path, lines), receive, send)
    return _response(sent)


def _scope(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Scope:
    """As uvicorn makes it."""
    raw_path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "headers": headers,
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "state": {},
    }


def _response(sent: list[Message]) -> Got:
    if not sent:
        raise NothingSent
    start, *bodies = sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Got(start["status"], headers, b"".join(message.get("body", b"") for message in bodies))
