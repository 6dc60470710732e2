"""REST as a plain client speaks it: one keep-alive connection, and no answer is None, never an exception."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

NO_ANSWER = (OSError, http.client.HTTPException)


class Answer(NamedTuple):
    """A status, the body's bytes, and headers by their names in lower case."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def final(self) -> bool:
        """Whether the outcome is known; a 5xx leaves it in doubt."""
        return self.status < 500

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotent-replayed") == "true"

    @property
    def durability(self) -> str | None:
        return self.headers.get("ftwallet-durability")


class Rest:
    """Calls on one port of this machine."""

    def __init__(self, port: int, timeout_s: float = 15.0) -> None:
        self.port = port
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer | None:
        """Ask once; None when the connection is refused, or ends before the answer."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self._timeout_s)
        try:
            self._connection.request(method, path, body or None, headers or {})
            response = self._connection.getresponse()
            content = response.read()
        except NO_ANSWER:
            self.close()
            return None
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, content, names)

    def move(self, kind: str, account_id: str, amount: str, transaction_id: str) -> Answer | None:
        """A deposit or withdrawal; `amount` is JSON text."""
        return self.call("POST", f"/{kind}", movement(account_id, amount, transaction_id))

    def healthy(self) -> bool:
        answer = self.call("GET", "/health")
        return answer is not None and answer.status == 200

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def movement(account_id: str, amount: str, transaction_id: str) -> bytes:
    """The body of a deposit or withdrawal; `amount` is JSON text."""
    ids = {"account_id": account_id, "transaction_id": transaction_id}
    return f'{{"amount":{amount},{json.dumps(ids)[1:]}'.encode()


def transfer(moves: Sequence[tuple[str, str, str]], transaction_id: str) -> bytes:
    """The body of a transfer of these legs: from where, to where, and how much as JSON text."""
    legs = [
        f'"from_account_id":{json.dumps(source)},"to_account_id":{json.dumps(target)},"amount":{amount}'
        for source, target, amount in moves
    ]
    spelled = legs[0] if len(legs) == 1 else f'"legs":[{",".join(f"{{{one}}}" for one in legs)}]'
    return f'{{{spelled},"transaction_id":{json.dumps(transaction_id)}}}'.encode()
