"""One simulated world: two nodes, their disks, a network, a supervisor that is the witness, and clients.

The nodes are the shipped ones, from `Seat` down: pipeline, protocol, journal, recovery, ledger. The network under them
(`network.py`), the disks (`disk.py`), the clock and the threads (`loop.py`) are simulated. The supervisor is a small
one of our own around the shipped witness and the shipped rule of who may be promoted.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog

from ftwallet.config import Config
from ftwallet.errors import BrokenInvariant, DiskFault, ExitCode, Refused
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import Stage
from ftwallet.journal import Block, Corruption, Journal
from ftwallet.journal.checkpoints import list_files, lsn_of
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import MOVEMENTS, Kind, Operation, decode_operations
from ftwallet.ledger.outcomes import Outcome
from ftwallet.node import disk as node_disk
from ftwallet.node import primary as node_primary
from ftwallet.node import receiving, seat
from ftwallet.node.backup import BackupNode
from ftwallet.node.control import NodeControlServicer
from ftwallet.node.outage import Outage
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.seat import Seat, Start
from ftwallet.replication import backup as backup_core
from ftwallet.replication import membership
from ftwallet.replication.register import Register
from ftwallet.rpc.servicers import WalletBackupServicer
from ftwallet.rpc.v1 import wallet_pb2
from ftwallet.wallet import Wallet
from ftwallet.witness.bootstrap import CLUSTER_FILE, ensure_cluster
from tests.simulation.disk import PLENTY, Loss, RecordDisk, SimDisk, disks_in_place
from tests.simulation.loop import PROCESS, Killed, Process, SimExecutor, SimLoop
from tests.simulation.network import Network, SimPorts
from tests.simulation.supervisor import SimWitness, Supervisor

NODES = ("a", "b")
SLICE_BYTES = 1024
EPOCH_US = 1_700_000_000_000_000
_SILENT_S = 1.0


class Violated(AssertionError):
    """An invariant does not hold; the first word names it."""


class SimNode:
    """A node: its disk, which stays, and its process, which comes and goes."""

    def __init__(self, name: str, disk: SimDisk) -> None:
        self.name = name
        self.disk = disk
        self.process: Process | None = None
        self.role = ""
        self.outage: Outage | None = None
        self.control: NodeControlServicer | None = None
        self.injector: Injector | None = None
        self.wallet: Wallet | None = None
        self.backup_face: WalletBackupServicer | None = None
        self.armed_stage = ""
        self.killed_at = 0.0
        self.paused_at: float | None = None
        self.start_at: float | None = 0.0
        self.kept_down = False
        self.early_deaths = 0
        self.given_up = ""
        self.code = ExitCode.OK
        self.sentence = ""
        self.clock_us = 0
        self.slow_until = 0.0
        self.stalled_until = 0.0
        self.requests: list[asyncio.Future[Any]] = []
        self.at_state: dict[str, list[Callable[[], None]]] = {}  # what is to happen once the protocol is in a state

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def paused(self) -> bool:
        return self.alive and self.process is not None and self.process.paused

    @property
    def node(self) -> PrimaryNode | BackupNode | None:
        return self.control.node if self.alive and self.control is not None else None

    @property
    def is_up(self) -> bool:
        return self.node is not None


class World:
    """Built inside `simulated`; `run_until` plays it."""

    def __init__(self, seed: int, root: Path, *, on_primary_death: str, request_timeout_s: float) -> None:
        self.seed = seed
        self.root = root
        self.trace: list[str] = []
        self.coverage: Counter[str] = Counter()
        self.violation: Violated | None = None
        self.loop = SimLoop(Random(f"{seed} loop"), self._latency)
        self.config = Config(
            data_dir=root / "data",
            on_primary_death=on_primary_death,  # type: ignore[arg-type]
            segment_bytes=4096,
            state="memory",
            journal_keep_bytes=4096 if seed % 8 == 7 else 0,  # elsewhere a whole log is checked against the state
            checkpoint_records=25,
            state_sync_records=60,
            request_timeout_s=request_timeout_s,
            settle_timeout_s=3.0,
            health_interval_s=2.0,
            max_batch=6,
            max_queue=40,
            min_free_bytes=1,
        )
        self._disk_random = Random(f"{seed} disk")
        self.network = Network(self, Random(f"{seed} network"))
        ensure_cluster(self.config.data_dir)
        self.nodes = {
            name: SimNode(name, SimDisk(self.config.node_dir(name), root / f"shadow-{name}", Random(f"{seed} {name}")))
            for name in NODES
        }
        self.graveyard: list[Process] = []
        self.record_disk = RecordDisk(self.config.data_dir / CLUSTER_FILE, Random(f"{seed} record"))
        self.record_disk.on_crash = lambda: self.supervisor.die()
        self.supervisor = Supervisor(self)
        self.witness_silent_until = 0.0
        self.answers_lost_until = 0.0
        self.at_peace = False  # all is well again, and what was to go wrong later does not any more
        self.spoilt: set[str] = set()  # nodes whose disk was taken, until the pair is paired again
        self.on_counted: Callable[[SimNode], None] = lambda node: None  # it has just become one that must hold all
        self.cut_ids: dict[str, set[str]] = {name: set() for name in NODES}  # of what was cut from its log
        self.expiries: dict[int, Operation] = {}  # by lsn, as either node executed them
        self.cut_frames: dict[str, set[bytes]] = {name: set() for name in NODES}  # which it must have kept a copy of

    # ---- Time and what goes by it

    def _latency(self, process: Process, now: float) -> float:
        random = self._disk_random
        node = self.nodes.get(process.name) if hasattr(self, "nodes") else None
        latency = random.uniform(0.0002, 0.003)
        if node is not None and node.slow_until > now:
            latency = random.uniform(0.05, 0.4)
        if node is not None and node.stalled_until > now:
            latency += node.stalled_until - now
        return latency

    def wall_clock_us(self) -> int:
        node = self.nodes.get(PROCESS.get().name)
        return EPOCH_US + int(self.loop.time() * 1e6) + (node.clock_us if node else 0)

    def say(self, who: str, what: str) -> None:
        self.trace.append(f"{self.loop.time():9.4f} {who:10} {what}".replace(str(self.root), ""))

    def partner(self, node: SimNode) -> SimNode:
        return self.nodes["b" if node.name == "a" else "a"]

    @property
    def register(self) -> Register:
        """As the witness has it."""
        return self.supervisor.register

    @property
    def primary(self) -> SimNode:
        return self.nodes[self.register.primary]

    @property
    def backup(self) -> SimNode:
        return self.partner(self.primary)

    def identity(self, name: str) -> Identity | None:
        """Of the directory as it is now; None where there is none."""
        try:
            return Identity.load(self.config.node_dir(name))
        except Refused:
            return None

    def incarnation(self, name: str) -> str:
        """Of the directory as it is now, or nothing."""
        identity = self.identity(name)
        return identity.incarnation if identity else ""

    def node(self, role: str) -> SimNode:
        """By name or by role."""
        if role in self.nodes:
            return self.nodes[role]
        return self.primary if role == "primary" else self.backup

    def fail(self, sentence: str) -> None:
        if self.violation is None:
            self.violation = Violated(sentence.replace(str(self.root), ""))
            self.say("checker", f"VIOLATED {sentence}")

    # ---- Processes

    def start(self, node: SimNode, role: str) -> None:
        self.say(node.name, f"starts as {role}")
        node.process = process = Process(node.name, node.disk)
        node.role, node.start_at, node.paused_at = role, None, None
        node.outage = Outage(lambda: self._end_at_once(node, process))
        node.injector = Injector(self.config.node_dir(node.name), strike=lambda _: self._strike(node, node.armed_stage))
        node.disk.on_crash = lambda: self._crash(node)
        node.control = None
        context = process.context.copy()
        self.loop.create_task(self._live(node, process, role), context=context)

    async def _live(self, node: SimNode, process: Process, role: str) -> None:
        outage, injector = node.outage, node.injector
        assert outage is not None
        assert injector is not None
        start = Start(role, node.name, self.config)
        witness = SimWitness(self, node)
        seat = Seat(start, witness, injector, outage, SimPorts(self, node))
        starting = wallet_pb2.NodeStatus(node=node.name, role=role, state="recovering")
        node.control = NodeControlServicer(injector, lambda: starting, seat, outage)
        opening = asyncio.create_task(self._open(seat))
        ending = asyncio.create_task(outage.wait())
        try:  # as `process.py` does
            await asyncio.wait({opening, ending}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                node.control.node = opening.result()
                node.early_deaths = 0
                await ending
                if node.control.node is not None:
                    await (node.control.node.stop() if outage.orderly else node.control.node.abandon())
        except (Refused, DiskFault, BrokenInvariant) as error:
            outage.failed(error)
        self._exited(node, process, outage)

    async def _open(self, seat: Seat) -> PrimaryNode | BackupNode:
        await asyncio.to_thread(ensure_cluster, self.config.data_dir)
        return await seat.open()

    def _exited(self, node: SimNode, process: Process, outage: Outage) -> None:
        if process.dead:
            return
        node.code, node.sentence = outage.code, outage.sentence
        self.say(node.name, f"ends: {outage.code.name} {outage.sentence}")
        if outage.code in (ExitCode.BROKEN_INVARIANT, ExitCode.FAILED):
            self.fail(f"crash: node {node.name} ended by itself: {outage.sentence}")
        if outage.code is ExitCode.CORRUPTION:
            self.called_damaged(node, outage.sentence)
        self._gone(node, process, power=False)

    def forget_cuts(self, node: SimNode) -> None:
        """Its directory is another one now."""
        self.cut_ids[node.name].clear()
        self.cut_frames[node.name].clear()

    def called_damaged(self, node: SimNode, sentence: str) -> None:
        """No crash leaves what looks like damage: else it would cost a healthy node its log, or its start."""
        if not node.disk.flipped:
            self.fail(f"undamaged: node {node.name} takes its disk for damaged, where no bit was flipped: {sentence}")

    def _end_at_once(self, node: SimNode, process: Process) -> None:
        if node.outage is not None:
            self._exited(node, process, node.outage)
        raise Killed

    def _strike(self, node: SimNode, stage: str) -> None:
        role = "primary" if isinstance(node.node, PrimaryNode) else "backup"
        self.coverage[f"stage: {role} {stage}"] += 1
        self.kill(node, power=False, why="is killed at the armed stage")
        raise Killed

    def _crash(self, node: SimNode) -> None:
        power = not node.disk.crash_keeps_power
        self.kill(node, power=power, why="is killed in the middle of a disk operation")

    def kill(self, node: SimNode, *, power: bool = False, loss: Loss = Loss.ANY, why: str = "is killed") -> None:
        """SIGKILL; with `power` what was not synced may be lost, or just `loss` is."""
        process = node.process
        if process is None or process.dead:
            return
        self.say(node.name, f"{why}{' and loses power' if power else ''}")
        node.code, node.sentence = ExitCode.OK, "killed"
        self._gone(node, process, power=power, loss=loss)

    def _gone(self, node: SimNode, process: Process, *, power: bool, loss: Loss = Loss.ANY) -> None:
        process.die()
        self.graveyard.append(process)
        node.process, node.wallet, node.backup_face = None, None, None
        node.killed_at = self.loop.time()
        node.disk.crash_after = node.disk.fail_after = None
        if power:
            node.disk.lose_power(loss)
        self.network.died(node.name, power)
        for request in node.requests:
            self.network.later(0.001, _reset, request)
        node.requests = []
        self.supervisor.node_died(node)

    def pause(self, node: SimNode) -> None:
        if node.process is not None and not node.process.paused:
            self.say(node.name, "is paused")
            node.process.paused, node.paused_at = True, self.loop.time()

    def resume(self, node: SimNode) -> None:
        if node.process is not None and node.process.paused:
            self.say(node.name, "goes on")
            node.paused_at = None
            self.network.later(0.0, node.process.go_on)

    def arm(self, node: SimNode, stage: str, after: int = 1) -> None:
        if node.injector is not None and node.node is not None:
            self.say(node.name, f"is armed at {stage}")
            node.armed_stage = stage
            node.injector.arm(Stage(stage), after)

    # ---- Playing

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine of nobody's process to its end."""
        return self.loop.run_until_complete(coroutine)

    async def until(self, true: Callable[[], bool], within_s: float) -> bool:
        give_up = self.loop.time() + within_s
        while self.loop.time() < give_up and self.violation is None:
            if true():
                return True
            await asyncio.sleep(0.02)
        return true()

    def paired(self) -> bool:
        node = self.primary.node
        if not isinstance(node, PrimaryNode) or not node.status().ready or node.status().mode != "paired":
            return False
        other = self.backup.node
        return isinstance(other, BackupNode) and other.status().state == "in-sync"

    def equal(self) -> bool:
        ours, theirs = self.primary.node, self.backup.node
        if ours is None or theirs is None:
            return False
        one, other = ours.status(), theirs.status()
        return (one.applied_lsn, one.digest, one.chain) == (other.applied_lsn, other.digest, other.chain)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.say("world", "heals")
        self.network.heal()
        self.witness_silent_until = self.answers_lost_until = 0.0
        for node in self.nodes.values():
            disk = node.disk
            disk.crash_after = disk.fail_after = None
            disk.free = PLENTY
            node.slow_until = node.stalled_until = 0.0
            if node.injector is not None:
                node.injector.disarm()
            node.at_state.clear()
            self.resume(node)
        self.record_disk.fail_after = self.record_disk.crash_after = None
        self.supervisor.healed = True

    def dispose(self) -> None:
        processes = [*self.graveyard, self.supervisor.process]
        processes += [node.process for node in self.nodes.values() if node.process is not None]
        for node in self.nodes.values():
            node.process = None
        self.loop.dispose(processes)

    def fingerprint(self) -> str:
        """Of everything that happened, for the proof that a seed replays exactly."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()


def _reset(request: asyncio.Future[Any]) -> None:
    if not request.done():
        request.set_exception(ConnectionResetError("the node is gone"))


# ---- Entering and leaving a simulated world


@contextmanager
def simulated(seed: int, *, on_primary_death: str = "promote", request_timeout_s: float = 5.0) -> Iterator[World]:
    """A world in which everything that the shells take from outside is the world's."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="ftwallet-simulation-", dir=base))
    kept = {name: getattr(time, name) for name in ("monotonic", "time_ns", "time", "gmtime")}
    token_hex, executor = secrets.token_hex, node_disk.ThreadPoolExecutor
    slices, limits, cut, trim = receiving.SLICE_BYTES, node_primary.Limits, Journal.cut, Journal.trim
    execute = Ledger.apply
    set_aside = seat.set_damaged_aside
    moves = (membership.check_primary_move, backup_core.check_backup_move)
    tokens = Random(f"{seed} tokens")
    was_collecting = gc.isenabled()
    gc.disable()  # what a dead process leaves must not be finished at a moment that nobody chose
    world: World | None = None
    try:
        disks: list[SimDisk | RecordDisk] = []
        with disks_in_place(disks):
            secrets.token_hex = lambda size=16: tokens.randbytes(size).hex()  # type: ignore[assignment]
            node_disk.ThreadPoolExecutor = SimExecutor  # type: ignore[misc, assignment]
            world = World(seed, root, on_primary_death=on_primary_death, request_timeout_s=request_timeout_s)
            made = world
            disks += [*(node.disk for node in world.nodes.values()), world.record_disk]
            time.monotonic = lambda: made.loop.time()
            time.time_ns = lambda: made.wall_clock_us() * 1000
            time.time = lambda: made.wall_clock_us() / 1e6
            time.gmtime = lambda seconds=None: kept["gmtime"](
                made.wall_clock_us() / 1e6 if seconds is None else seconds
            )
            membership.check_primary_move = _counted(world, "primary", moves[0])
            backup_core.check_backup_move = _counted(world, "backup", moves[1])
            # A state sync takes many messages, as it does with millions of accounts.
            receiving.SLICE_BYTES = SLICE_BYTES
            node_primary.Limits = partial(limits, slice_bytes=SLICE_BYTES)  # type: ignore[misc, assignment]
            Journal.cut = _copied(world, cut)  # type: ignore[method-assign, assignment]
            Journal.trim = _trimmed(world, trim)  # type: ignore[method-assign]
            Ledger.apply = _noted(world, execute)  # type: ignore[method-assign]
            seat.set_damaged_aside = _told_of_damage(world, set_aside)
            structlog.configure(processors=[_into_trace(world)], cache_logger_on_first_use=False)
            yield world
    finally:
        for name, real in kept.items():
            setattr(time, name, real)
        membership.check_primary_move, backup_core.check_backup_move = moves
        secrets.token_hex, node_disk.ThreadPoolExecutor = token_hex, executor  # type: ignore[misc]
        receiving.SLICE_BYTES, node_primary.Limits = slices, limits  # type: ignore[misc]
        Journal.cut, Journal.trim, Ledger.apply = cut, trim, execute  # type: ignore[method-assign]
        seat.set_damaged_aside = set_aside
        if world is not None:
            world.dispose()
        structlog.reset_defaults()
        shutil.rmtree(root, ignore_errors=True)
        if was_collecting:
            gc.enable()


def _counted(world: World, role: str, check: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def checked(before: Any, after: Any) -> None:
        check(before, after)
        world.coverage[f"{role}: {before} -> {after}"] += 1
        node = world.nodes.get(PROCESS.get().name)
        for act in node.at_state.pop(str(after), ()) if node else ():
            world.network.later(0.0, act)

    return checked


def _noted(world: World, execute: Callable[..., Sequence[Outcome]]) -> Callable[..., Sequence[Outcome]]:
    """Note when holds expire, which no client is told of. What a backup executes, and another takes its place, goes."""

    def noted(ledger: Ledger, first_lsn: int, epoch: int, operations: Sequence[Operation]) -> Sequence[Outcome]:
        for lsn, one in enumerate(operations, first_lsn):
            world.expiries.pop(lsn, None)
            if one.kind == Kind.EXPIRE:
                world.expiries[lsn] = one
                world.coverage["holds: expired"] += 1
        return execute(ledger, first_lsn, epoch, operations)

    return noted


def _trimmed(world: World, trim: Callable[[Journal, int], None]) -> Callable[[Journal, int], None]:
    """Look at every trimming: what goes was committed, and two files of its state are on the disk."""

    def checked(journal: Journal, lsn: int) -> None:
        before = journal.first_lsn
        trim(journal, lsn)
        if journal.first_lsn == before:
            return
        world.coverage["journal: trimmed"] += 1
        node = world.nodes[journal.directory.parent.name]
        kept = [path for path in list_files(node.disk.root / "checkpoints") if lsn_of(path) >= journal.first_lsn - 1]
        if len(kept) < 2:
            world.fail(f"trim: node {node.name} has trimmed to lsn {journal.first_lsn}, with {len(kept)} states of it")

    return checked


def _copied(world: World, cut: Callable[..., list[Block]]) -> Callable[..., list[Block]]:
    """Look at every cut: a copy of each block must be on the disk, and what it asked must be on record in the end."""

    def checked(journal: Journal, lsn: int, why: str) -> list[Block]:
        blocks = cut(journal, lsn, why)
        node = world.nodes[journal.directory.parent.name]
        for block in blocks:
            asked = [one for one in decode_operations(block.payload) if one.kind in MOVEMENTS]
            world.cut_ids[node.name].update(one.transaction_id for one in asked)
            world.cut_frames[node.name].add(block.raw)
            if not node.disk.keeps_copy(block.raw):
                world.fail(f"copy: node {node.name} has cut lsn {block.first_lsn} and kept no copy that is synced")
        return blocks

    return checked


def _told_of_damage(world: World, set_aside: Callable[..., Path]) -> Callable[..., Path]:
    def told(node_dir: Path, owner: Identity, damage: Corruption) -> Path:
        world.called_damaged(world.nodes[node_dir.name], str(damage))
        return set_aside(node_dir, owner, damage)

    return told


def _into_trace(world: World) -> structlog.types.Processor:
    def processor(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        world.say(PROCESS.get().name, str(event["event"]))
        raise structlog.DropEvent

    return processor
