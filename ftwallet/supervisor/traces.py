"""Where a transaction left its traces: in a node's ledger, asked by gRPC, and in the journal of a dead node."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import grpc

from ftwallet.rpc.v1.control_pb2 import FindRequest
from ftwallet.supervisor.slots import Slot

_DEADLINE_S = 2.0
_NEWEST_FILES = 2  # the record that a crash was armed for is in the last file, or right before its beginning


async def find(slot: Slot, transaction_id: str) -> dict[str, Any] | None:
    """Ask a running node for a transaction; None when it does not know it, or cannot be asked."""
    if slot.run is None or not transaction_id:
        return None
    try:
        reply = await slot.run.control.FindTransaction(
            FindRequest(transaction_id=transaction_id), timeout=_DEADLINE_S, wait_for_ready=True
        )
    except grpc.aio.AioRpcError:
        return None
    document = json.loads(reply.json or "null")
    return document if isinstance(document, dict) and document.get("status") else None


def journal_mentions(node_dir: Path, transaction_id: str) -> bool:
    """Tell whether the end of a node's journal holds the id. Reads only, and reads raw bytes: the node is dead."""
    wanted = transaction_id.encode()
    files = sorted((node_dir / "journal").glob("*.journal"))[-_NEWEST_FILES:]
    return bool(wanted) and any(_mentions(path, wanted) for path in files)


def _mentions(path: Path, wanted: bytes) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.rfind(wanted) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False
