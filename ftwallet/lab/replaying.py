"""`python -m ftwallet.lab.replaying HOW NODE_DIR PID`: read one node's log as its start does, in a clean process.

HOW is a node's `state`, "memory" or "disk": the directory is opened by the code that a node opens it with, which
replays all of a log that nothing else holds; or "decode": the same blocks are only read, checked and decoded. Prints
what it took as one object of JSON. The collector is set as in a node that starts; it is tuned only afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.journal import Journal
from ftwallet.journal.identity import Identity
from ftwallet.lab.processes import anonymous_bytes
from ftwallet.ledger.operations import decode_operations
from ftwallet.node import logs
from ftwallet.node.base import base_of
from ftwallet.node.storage import open_storage

DECODE = "decode"


class Took(NamedTuple):
    """`seconds` for so many records; `anonymous_bytes`: what the process held more afterwards; `digest` of the ledger.

    The digest is empty where nothing was executed.
    """

    records: int
    seconds: float
    anonymous_bytes: int
    digest: str = ""


def decode(node_dir: Path) -> Took:
    """Read and decode all blocks, and execute none."""
    held, began = anonymous_bytes(os.getpid()), time.monotonic()
    journal = Journal.open(node_dir / "journal", Identity.load(node_dir).cluster_id, read_only=True)
    records = sum(len(decode_operations(block.payload)) for block in journal.blocks())
    return Took(records, time.monotonic() - began, anonymous_bytes(os.getpid()) - held)


def replay(node_dir: Path, config: Config) -> Took:
    """Open the directory as a node does."""
    held, began = anonymous_bytes(os.getpid()), time.monotonic()
    storage = open_storage(node_dir, config.segment_bytes, base_of(node_dir, config))
    seconds = time.monotonic() - began
    held = anonymous_bytes(os.getpid()) - held
    storage.base.close()
    storage.journal.close()
    ledger = storage.ledger
    return Took(ledger.applied_lsn - storage.checkpoint_lsn, seconds, held, ledger.digest.hex())


def main() -> None:
    """Do what the command line says, or end with the parent PID."""
    how, node_dir = sys.argv[1], Path(sys.argv[2])
    platform.die_with_parent(int(sys.argv[3]))
    logs.configure("error", "json")
    took = decode(node_dir) if how == DECODE else replay(node_dir, Config.model_validate({"state": how}))
    print(json.dumps(took._asdict()))


if __name__ == "__main__":
    main()
