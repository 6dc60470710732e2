"""When a checkpoint is taken, and that none which was asked for is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ftwallet.journal import encode_block
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.node.base import FileBase
from ftwallet.node.checkpointing import Checkpointer


class SlowDisk:
    """Writes when it is told to."""

    def __init__(self) -> None:
        self.journal: Any = SimpleNamespace(holds=lambda lsn, chain: True, commit_lsn=2)
        self.go_on = asyncio.Event()

    async def in_background(self, act: Callable[[], Any]) -> Any:
        await self.go_on.wait()
        return act()


async def test_C7_a_copy_that_is_taken_while_an_older_one_is_written_is_not_forgotten(tmp_path: Path) -> None:
    ledger, disk = Ledger(Rules(2, 10**20, 10**20), MemoryState()), SlowDisk()
    checkpointer = Checkpointer(FileBase(tmp_path), lambda: ledger, disk, lambda: (), every=1, last_lsn=0)  # type: ignore[arg-type]

    def execute(lsn: int) -> None:
        deposit = [operation(Kind.DEPOSIT, f"t{lsn}", "ann", 5, lsn)]
        ledger.apply(lsn, 1, deposit)
        checkpointer.applied(encode_block(1, lsn, 1, lsn - 1, bytes(32), encode_operations(deposit)))

    execute(1)
    writing = asyncio.create_task(checkpointer.tick(1))
    await asyncio.sleep(0)
    checkpointer.stands_at(1)  # a state sync ends in the middle of the writing
    execute(2)
    disk.go_on.set()
    await writing
    await checkpointer.tick(2)
    written = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in written] == [f"{lsn:020d}.checkpoint" for lsn in (1, 2)]
