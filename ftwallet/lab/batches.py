"""The load of batches: one client connection to `POST /transactions`, one batch after the other, each with new ids.

A batch's body is a template in which one run of bytes is replaced, so that making it costs the client next to nothing.
"""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from ftwallet.errors import Refused
from ftwallet.lab.plan import middle
from ftwallet.lab.scripts import ACCOUNTS, AMOUNT_MINOR
from ftwallet.lab.wrk import new_prefix

PATH = "/transactions"
_MISSING = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_LONGEST_ANSWER_S = 30.0
_STRIDE = 7919  # as in wrk's script: neighbours in a batch are of accounts far apart
_PLACE = "########"
_HEADERS = {"Content-Type": "application/json"}


class BatchLoad(NamedTuple):
    """What one run saw: batches that were answered with 200, the time of each, and of all together."""

    size: int
    batches: int
    seconds: float
    p50_ms: float

    @property
    def operations(self) -> int:
        """Operations that were answered."""
        return self.size * self.batches

    @property
    def per_second(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds if self.seconds else 0.0


class BatchTemplate:
    """Bodies of batches of `size` deposits; no two have an id in common."""

    def __init__(self, size: int) -> None:
        prefix = new_prefix()
        amount = AMOUNT_MINOR / 100
        operations = [
            {
                "kind": "deposit",
                "account_id": f"account-{index * _STRIDE % ACCOUNTS}",
                "amount": amount,
                "transaction_id": f"{prefix}-{_PLACE}-{index}",
            }
            for index in range(size)
        ]
        batch = {"mode": "independent", "reply": "compact", "operations": operations}
        self._template = json.dumps(batch, separators=(",", ":")).encode()

    def body(self, number: int) -> bytes:
        """Return the `number`-th body."""
        return self._template.replace(_PLACE.encode(), b"%0*d" % (len(_PLACE), number))


def has_batches(url: str) -> bool:
    """Tell whether a server knows batches at all."""
    with closing(_connect(url)) as connection:
        status, _ = _ask(connection, b"{}")
    return status not in _MISSING


def run_batches(url: str, size: int, seconds: float) -> BatchLoad:
    """Send batches of `size` for so long, and count those answered. Raises Refused on any other answer than 200."""
    template = BatchTemplate(size)
    times: list[float] = []
    with closing(_connect(url)) as connection:
        began = now = time.monotonic()
        while now - began < seconds:
            status, answer = _ask(connection, template.body(len(times)))
            if status != HTTPStatus.OK:
                said = answer[:300].decode(errors="replace")
                raise Refused(f"a batch of {size:,} was answered with {status}: {said}")
            before, now = now, time.monotonic()
            times.append(now - before)
    return BatchLoad(size, len(times), now - began, 1_000 * middle(times))


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.hostname is None:
        raise Refused(f"{url} names no server")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_LONGEST_ANSWER_S)


def _ask(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    try:
        connection.request("POST", PATH, body, _HEADERS)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise Refused(f"a batch was not answered: {error or type(error).__name__}") from error
