"""Rules of requests broken: an id is executed once, and answered when it is safe."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any
from unittest import mock

from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import MOVEMENTS, Body, Kind
from ftwallet.node.service import PrimaryWalletService
from tests.simulation.breaks.breaking import Break, Patch, method, together


def no_dedup(kinds: Collection[Kind] = MOVEMENTS) -> Patch:
    def replace(whole: Any) -> Any:
        def submit(self: Any, kind: Kind, account_id: str, amount: int, transaction_id: str, extra: bytes = b"") -> Any:
            if kind not in kinds:
                return whole(self, kind, account_id, amount, transaction_id, extra)
            body = Body(kind, account_id, amount, extra)
            pending = self._underway.get(transaction_id) or self._begin(body, transaction_id)
            return self._underway.wait(pending, body, time.monotonic())

        return submit

    return method(PrimaryWalletService, "submit", replace)


def execute_twice(kinds: Collection[Kind] = MOVEMENTS) -> Patch:
    def replace(whole: Any) -> Any:
        def apply(self: Any, first_lsn: int, epoch: int, operations: Any) -> Any:
            for one in operations:
                if one.kind in kinds:
                    self.state.transactions.pop(one.transaction_id, None)
            return whole(self, first_lsn, epoch, operations)

        return apply

    return together(no_dedup(kinds), method(Ledger, "apply", replace))


def decide_each_alone() -> Patch:
    def decide(self: Any, movements: Any) -> Any:
        return True, [self._move(self._book, one) for one in movements]

    return mock.patch.object(Ledger, "_decide", decide)


def answer_before_execution() -> Patch:
    """On its own disk is enough: executed and answered before the protocol says so."""

    def replace(whole: Any) -> Any:
        async def record(self: PrimaryWalletService, transactions: Any) -> None:
            await whole(self, transactions)
            self.committed(self._next_lsn - 1)

        return record

    return method(PrimaryWalletService, "_record_transaction_wal", replace)


REQUESTS = (
    Break("no-dedup", "a retry is taken for a new transaction", no_dedup),
    Break("group-apart", "each movement of a group is decided alone", decide_each_alone),
    Break("twice", "an id is executed twice", execute_twice),
    Break("answer-early", "a transaction is executed and answered when its own disk has it", answer_before_execution),
)
