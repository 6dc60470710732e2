"""What a client of the real pair asks of holds, and what each moves once it is done."""

from __future__ import annotations

import json
from typing import NamedTuple

from ftwallet.ledger.holds import HELD
from tests.faults.checker import Move


class AskedHold(NamedTuple):
    """`amount` is JSON text; it expires in so many seconds, or never."""

    account_id: str
    amount: str
    expires_in_s: int = 0

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body."""
        expires = f',"expires_in":{self.expires_in_s}' if self.expires_in_s else ""
        ids = json.dumps({"account_id": self.account_id, "transaction_id": transaction_id})
        return "/holds", f'{{"amount":{self.amount}{expires},{ids[1:]}'.encode()

    @property
    def moves(self) -> tuple[Move, ...]:
        return ((self.account_id, HELD + self.account_id, self.amount),)

    @property
    def given_back(self) -> Move:
        """What its end moves while nothing of it was captured."""
        return (HELD + self.account_id, self.account_id, self.amount)


class AskedCapture(NamedTuple):
    """Of a hold in `account_id`."""

    hold_id: str
    account_id: str
    amount: str
    target: str

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body."""
        ids = json.dumps({"to_account_id": self.target, "transaction_id": transaction_id})
        return f"/holds/{self.hold_id}/capture", f'{{"amount":{self.amount},{ids[1:]}'.encode()

    @property
    def moves(self) -> tuple[Move, ...]:
        return ((HELD + self.account_id, self.target, self.amount),)


class AskedRelease(NamedTuple):
    """Of a hold in `account_id` that has `left` left."""

    hold_id: str
    account_id: str
    left: str

    def request(self, transaction_id: str) -> tuple[str, bytes]:
        """Path and body."""
        return f"/holds/{self.hold_id}/release", json.dumps({"transaction_id": transaction_id}).encode()

    @property
    def moves(self) -> tuple[Move, ...]:
        return ((HELD + self.account_id, self.account_id, self.left),)
