"""A client of the supervisor's own: one small deposit, sent again with the same id until it is answered.

It shows what an armed crash looks like from outside: how often it had to ask, how long it waited, what it was told.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

ACCOUNT = "ftwallet-probe"
_PAUSE_S = 0.05
_HTTP_SERVER_ERROR = 500


class Answered(NamedTuple):
    """The end of a probe; `status` is None when it gave up. Seconds from the first try to the answer."""

    transaction_id: str
    status: int | None
    body: dict[str, Any]
    tries: int
    waited_s: float


class Probe:
    """One deposit of `amount` (decimal text). `send` blocks and belongs into a thread."""

    def __init__(self, host: str, port: int, amount: str, try_timeout_s: float) -> None:
        self.transaction_id = f"probe-{secrets.token_hex(8)}"
        self._address = (host, port)
        self._try_timeout_s = try_timeout_s
        self._body = json.dumps({"account_id": ACCOUNT, "amount": amount, "transaction_id": self.transaction_id})
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End soon, answered or not."""
        self._given_up.set()

    def send(self, clock: Callable[[], float] = time.monotonic) -> Answered:
        """Try until there is an answer that is no 5xx, or until told to give up."""
        began, tries = clock(), 0
        while not self._given_up.is_set():
            tries += 1
            status, body = self._try()
            if status is not None and status < _HTTP_SERVER_ERROR:
                return Answered(self.transaction_id, status, body, tries, clock() - began)
            self._given_up.wait(_PAUSE_S)
        return Answered(self.transaction_id, None, {}, tries, clock() - began)

    def _try(self) -> tuple[int | None, dict[str, Any]]:
        connection = http.client.HTTPConnection(*self._address, timeout=self._try_timeout_s)
        try:
            connection.request("POST", "/deposit", self._body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError):  # it died under us: ask again, with the same id
            return None, {}
        finally:
            connection.close()
