"""The layers of a node, and which of them a stack is in: that of the innermost frame whose file belongs to one.

Helpers of Python's library that any layer may call belong to none, so what they cost is their caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

HTTP: Final = "HTTP server"
REQUEST: Final = "decode, validate, answer"
PIPELINE: Final = "group commit and replication's protocol"
LEDGER: Final = "ledger and store"
JOURNAL: Final = "journal: encode, write"
GRPC: Final = "gRPC"
LOOP: Final = "event loop and threads"
OTHER: Final = "other"

LAYERS: Final = (HTTP, REQUEST, PIPELINE, LEDGER, JOURNAL, GRPC, LOOP, OTHER)
"""All of them, in the order of a request's way."""

# The longest that a file's path begins with counts.
_FILES: Final = {
    "uvicorn/": HTTP,
    "starlette/": HTTP,
    "fastapi/": HTTP,
    "ftwallet/api/protocol.py": HTTP,
    "ftwallet/api/server.py": HTTP,
    "ftwallet/api/": REQUEST,
    "ftwallet/ledger/money.py": REQUEST,
    "ftwallet/ledger/identifiers.py": REQUEST,
    "pydantic/": REQUEST,
    "ftwallet/node/": PIPELINE,
    "ftwallet/replication/": PIPELINE,
    "ftwallet/faults/": PIPELINE,
    "ftwallet/ledger/": LEDGER,
    "ftwallet/store/": LEDGER,
    "ftwallet/ledger/operations.py": JOURNAL,
    "ftwallet/journal/": JOURNAL,
    "ftwallet/node/disk.py": JOURNAL,
    "ftwallet/platform.py": JOURNAL,
    "ftwallet/rpc/": GRPC,
    "grpc/": GRPC,
    "google/": GRPC,
    "asyncio/": LOOP,
    "uvloop/": LOOP,
    "concurrent/": LOOP,
    "threading.py": LOOP,
    "ftwallet/node/process.py": LOOP,  # the outermost frames of every stack
    "ftwallet/cli/": LOOP,
    "ftwallet/__main__.py": LOOP,
}
_LONGEST_FIRST: Final = sorted(_FILES, key=len, reverse=True)


def layer_of(files: Sequence[str]) -> str:
    """Return the layer of a stack, given the files of its frames as py-spy names them, the outermost first."""
    found = (_FILES[known] for file in reversed(files) for known in _LONGEST_FIRST if file.startswith(known))
    return next(found, OTHER)
