"""Rules of the state sync broken: of a checkpoint that a backup is sent."""

from __future__ import annotations

import asyncio
from typing import Any

from ftwallet.node.following import Following
from ftwallet.replication import effects as fx
from tests.replication import breaks as protocol
from tests.simulation import moments
from tests.simulation.breaks.breaking import Break, Patch, method, together
from tests.simulation.breaks.disk import checkpoints_unchecked
from tests.simulation.moments import scenario


def state_sync_unchecked() -> Patch:
    """Neither the fingerprint of what has come nor the checksums inside."""
    return together(protocol.fingerprint_unchecked(), checkpoints_unchecked())


def ack_before_the_installation() -> Patch:
    """Two rules guard this: the protocol's, and that a node says nothing before all of a message is done."""

    def replace(whole: Any) -> Any:
        async def sync_state(self: Following, effect: Any) -> Any:
            if not isinstance(effect, fx.Install):
                return await whole(self, effect)
            self._installing = asyncio.create_task(install(self, effect))  # type: ignore[attr-defined]
            return []

        async def install(self: Following, effect: Any) -> None:
            async with self._one_at_a_time:
                await self._perform(await whole(self, effect))

        return sync_state

    return together(protocol.blocks_before_the_checkpoint(), method(Following, "_sync_state", replace))


STATE_SYNC = (
    Break(
        "log-from-1",
        "a backup gets no checkpoint, and the log begins too late",
        protocol.checkpoint_not_required,
        moment=moments.log_that_begins_after_a_checkpoint_leads,
    ),
    Break(
        "blocks-first",
        "a checkpoint is acked, and the ack sent, before it is installed",
        ack_before_the_installation,
        moment=moments.backup_is_slow_to_install_a_checkpoint,
    ),
    Break(
        "other-part",
        "a state sync goes on with what the backup does not have",
        protocol.part_of_another_file_counts,
        moment=scenario("C7_backup_dies_in_a_state_sync"),
    ),
    Break(
        "sync-unchecked",
        "a checkpoint that came is installed unchecked",
        state_sync_unchecked,
        moment=scenario("D7_flipped_bit_in_a_checkpoint"),
    ),
)
