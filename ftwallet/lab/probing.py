"""Single deposits beside a load, each timed and looked at by itself: wrk tells the latency of all answers together.

A few connections send one after the other, from threads of the bench; what they cost is little beside the load.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from typing import NamedTuple

from ftwallet.lab.processes import HOST
from ftwallet.lab.scripts import AMOUNT_MINOR, decimals
from ftwallet.lab.wrk import new_prefix

BROKEN = 0
"""The status of a probe that was not answered."""

_CONNECTIONS = 4
_ANSWER_WITHIN_S = 10.0
_PAUSE_S = 0.005


class Probe(NamedTuple):
    """One deposit; `told_when`: whether the answer had Retry-After."""

    status: int
    ms: float
    told_when: bool


class Probes:
    """All of them, once the block of `probing` is left."""

    def __init__(self) -> None:
        self.all: list[Probe] = []

    def with_status(self, status: int) -> list[Probe]:
        """Those that were answered with it."""
        return [probe for probe in self.all if probe.status == status]


@contextmanager
def probing(port: int) -> Iterator[Probes]:
    """Probe while the block runs."""
    probes, stop = Probes(), threading.Event()
    running: list[Future[list[Probe]]] = []
    with ThreadPoolExecutor(_CONNECTIONS, "probes") as threads:
        try:
            running += [threads.submit(_probe_until, stop, port) for _ in range(_CONNECTIONS)]
            yield probes
        finally:
            stop.set()
    for one in running:
        probes.all += one.result()


def _probe_until(stop: threading.Event, port: int) -> list[Probe]:
    prefix = new_prefix()
    probes: list[Probe] = []
    with closing(http.client.HTTPConnection(HOST, port, timeout=_ANSWER_WITHIN_S)) as connection:
        while not stop.wait(_PAUSE_S):
            probes.append(_probe(connection, f"probe-{prefix}-{len(probes)}"))
    return probes


def _probe(connection: http.client.HTTPConnection, transaction_id: str) -> Probe:
    body = f'{{"account_id":"probe","amount":{decimals(AMOUNT_MINOR)},"transaction_id":"{transaction_id}"}}'
    began = time.monotonic()
    try:
        connection.request("POST", "/deposit", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return Probe(BROKEN, 1_000 * (time.monotonic() - began), told_when=False)
    told_when = answer.headers.get("Retry-After") is not None
    return Probe(HTTPStatus(answer.status), 1_000 * (time.monotonic() - began), told_when)
