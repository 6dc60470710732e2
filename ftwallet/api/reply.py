"""What a call gives back: a status, headers and a body, all of it ready for the wire."""

from __future__ import annotations

from typing import Final

Header = tuple[bytes, bytes]
Reply = tuple[int, list[Header], bytes]
"""HTTP status, headers with names in lower case, body."""

JSON: Final[Header] = (b"content-type", b"application/json")
PROBLEM_JSON: Final[Header] = (b"content-type", b"application/problem+json")
REPLAYED: Final[Header] = (b"idempotent-replayed", b"true")
_DURABILITY: Final[dict[str, Header]] = {
    "paired": (b"ftwallet-durability", b"replicated"),
    "solo": (b"ftwallet-durability", b"solo"),
}


def framed(status: int, kind: Header, body: bytes, headers: list[Header]) -> Reply:
    """A whole reply; `kind` is its content type, `headers` what stands beside it."""
    return status, [kind, (b"content-length", b"%d" % len(body)), *headers], body


def standing(lsn: int, epoch: int, mode: str, replayed: bool = False) -> list[Header]:
    """Headers that say where in the log an answer stands and on how many nodes it is durable."""
    headers = [(b"ftwallet-lsn", b"%d" % lsn), (b"ftwallet-epoch", b"%d" % epoch)]
    durability = _DURABILITY.get(mode)
    if durability is not None:
        headers.append(durability)
    if replayed:
        headers.append(REPLAYED)
    return headers
