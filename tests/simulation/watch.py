"""What must hold at every moment, and not only at answers and in the end: looked at ten times a simulated second.

Bounds (nothing grows with the time that a partner, a disk or a link is slow), one node that serves, epochs that never
go back, and a backup in sync that has executed the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftwallet.node.backup import BackupNode
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.service import MAX_INFLIGHT_BLOCKS
from ftwallet.replication.sending import Limits
from ftwallet.replication.states import PrimaryState

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

EVERY_S = 0.1
TASKS = 40  # of a node's own, without those that wait for a client's answer
MESSAGES = Limits().outstanding + Limits().slices + 8  # what is under way, and what goes beside it: greetings, marks
JOBS = 8  # that wait for the disk
OWN_BATCHES = 2 * MAX_INFLIGHT_BLOCKS  # records of rollbacks, which are never refused: of its own log and the backup's


class Watch:
    """Looks until the world is over."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._epochs: dict[str, int] = {}  # the newest seen of each incarnation
        self._digests: dict[int, str] = {}  # of what was committed, by lsn: that never changes again
        world.network.later(EVERY_S, self._look)

    def _look(self) -> None:
        world = self._world
        for node in world.nodes.values():
            running = node.node
            if running is None:
                continue
            self._epoch(node, running)
            self._bounds(node, running)
        for stream in world.network.streams:
            if stream.open and stream.under_way > 2 * MESSAGES:
                world.fail(f"bounds: {stream.under_way} messages are on their way, {2 * MESSAGES} are the most")
        self._one_serves()
        self._same_state()
        self._committed_stays()
        if world.violation is None:
            world.network.later(EVERY_S, self._look)

    def _epoch(self, node: SimNode, running: PrimaryNode | BackupNode) -> None:
        identity = running._disk.identity
        newest = self._epochs.setdefault(identity.incarnation, identity.epoch)
        if identity.epoch < newest:
            self._world.fail(f"epochs: node {node.name} is back at epoch {identity.epoch} after {newest}")
        self._epochs[identity.incarnation] = identity.epoch
        if running._core.commit_lsn > running._disk.journal.durable_lsn:
            self._world.fail(
                f"commit: node {node.name} takes lsn {running._core.commit_lsn} for answered, and its log ends at "
                f"{running._disk.journal.durable_lsn}"
            )

    def _bounds(self, node: SimNode, running: PrimaryNode | BackupNode) -> None:
        sizes = {"jobs for the disk": (len(running._disk._writer.jobs), JOBS)}  # type: ignore[attr-defined]
        if node.process is not None:
            tasks = sum(not task.done() for task in node.process.tasks)
            sizes["tasks"] = (tasks, TASKS + len(node.requests) + self._world.config.max_queue)
        if isinstance(running, PrimaryNode):
            service, lead = running._service, running._lead
            own = OWN_BATCHES * self._world.config.max_batch
            sizes["transactions that wait"] = (len(service._queue), self._world.config.max_queue + own)
            sizes["blocks under way"] = (len(service._inflight), MAX_INFLIGHT_BLOCKS)
            sizes["effects that wait"] = (len(lead._effects), MESSAGES)
            for stream in lead._streams.values():
                sizes["messages to the backup"] = (len(stream._outgoing), MESSAGES)  # type: ignore[attr-defined]
        for what, (size, bound) in sizes.items():
            if size > bound:
                self._world.fail(f"bounds: node {node.name} has {size} {what}, {bound} are the most")

    def _committed_stays(self) -> None:
        for node in self._world.nodes.values():
            running = node.node
            if running is None or running.ledger.applied_lsn > running._core.commit_lsn:
                continue
            lsn, digest = running.ledger.applied_lsn, running.ledger.digest
            if self._digests.setdefault(lsn, digest) != digest:
                self._world.fail(f"digests: node {node.name} has another state at lsn {lsn} than was seen before")

    def _one_serves(self) -> None:
        serving = [node.name for node in self._world.nodes.values() if node.wallet is not None and node.wallet.ready]
        if len(serving) > 1:
            self._world.fail(f"one writer: nodes {' and '.join(serving)} both serve")

    def _same_state(self) -> None:
        primary, backup = self._world.primary.node, self._world.backup.node
        if not isinstance(primary, PrimaryNode) or not isinstance(backup, BackupNode):
            return
        if primary._core.state is not PrimaryState.PAIRED or not backup._core.in_sync:
            return
        ours, theirs = primary.ledger, backup.ledger
        same = primary._core.epoch == backup._core.epoch and ours.applied_lsn == theirs.applied_lsn
        if same and ours.digest != theirs.digest:
            self._world.fail(f"digests: the nodes are in sync and differ at lsn {ours.applied_lsn}")
