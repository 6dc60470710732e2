"""Rules of holds broken: they are spent once, given back once, and expire by the log's own time, on every primary."""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

from ftwallet.ledger import ledger
from ftwallet.ledger.holding import Book
from ftwallet.ledger.holds import CaptureTerms, Hold, decode_hold, hold_key
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.state import WORLD
from ftwallet.node import expiries
from ftwallet.node.expiries import Expiries
from tests.simulation.breaks.breaking import Break, Patch, method


def capture_again() -> Patch:
    def replace(whole: Any) -> Any:
        def capture(book: Book, rules: Any, terms: CaptureTerms, amount: int, time_us: int) -> Any:
            outcome = whole(book, rules, terms, amount, time_us)
            if outcome.code is not OutcomeCode.HOLD_CAPTURED:
                return outcome
            record = book.records.get(hold_key(terms.hold_id))
            assert record is not None
            captured = decode_hold(record).captured
            _pay(book, terms.target, captured)
            return Outcome(OutcomeCode.OK, figures=(captured, captured, 0))

        return capture

    return method(ledger, "capture_hold", replace)


def give_back_twice() -> Patch:
    def replace(whole: Any) -> Any:
        def expire(book: Book, hold_id: str, time_us: int) -> Any:
            outcome = whole(book, hold_id, time_us)
            record = book.records.get(hold_key(hold_id))
            if record is not None and outcome.figures[0]:
                _pay(book, decode_hold(record).account_id, outcome.figures[0])
            return outcome

        return expire

    return method(ledger, "expire_hold", replace)


def _pay(book: Book, account_id: str, amount: int) -> None:
    book.accounts[WORLD] -= amount
    book.accounts[account_id] = (book.accounts.get(account_id) or 0) + amount


def by_the_nodes_clock() -> Patch:
    def has_expired(self: Hold, time_us: int) -> bool:
        return 0 < self.expires_us <= time.time_ns() // 1_000

    return mock.patch.object(Hold, "has_expired", has_expired)


def do_not_look() -> Patch:
    async def read(self: Expiries) -> None:
        self._unread_from_us = expiries._NEVER

    return mock.patch.object(Expiries, "_read", read)


HOLDS = (
    Break("capture-again", "a hold is captured again by a capture with another id", capture_again),
    Break("node-clock", "a hold expires by the clock of whoever executes it", by_the_nodes_clock, ("clock", "kill")),
    Break("back-twice", "an expired hold is given back twice", give_back_twice),
    Break("no-look", "a new primary does not look for holds that are due", do_not_look, ("kill",)),
)
