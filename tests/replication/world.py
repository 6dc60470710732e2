"""A small world in one process, made from one seed, in which the shipped protocol objects run: two nodes and a witness.

Every step is drawn at random from what could happen next: a client's operation, an fsync, a message delivered or its
stream cut, a crash that loses what was not synced, a restart, a promotion (also of a living primary's backup: a false
suspicion), a witness that does not answer or whose answer is lost, an emptied data directory, an old copy of one put
back, a checkpoint, a crash in the middle of a state sync's installation, a part of a file that is damaged or lost.
After every step the invariants of DESIGN's "The pair" are checked; `heal` then lets everything be well and requires the
pair to be paired.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ftwallet.errors import PeerViolation
from ftwallet.replication import effects as fx
from ftwallet.replication.backup import Backup
from ftwallet.replication.messages import CheckpointFile, EpochEnd, Identity, cut_history
from ftwallet.replication.primary import Primary, Timing
from ftwallet.replication.register import Proposal, ProposalKind, Register, decide
from ftwallet.replication.sending import Limits
from ftwallet.replication.states import PrimaryState

NODES = ("a", "b")
END = "the backup has closed the stream"
NEVER = 1_000_000_000  # half of the worlds have no state sync: their rare orders would get rarer
LIMITS = Limits(outstanding=4, reading=2, near=2, slices=2, slice_bytes=30)


class Violated(AssertionError):
    """An invariant does not hold."""


class Entry(NamedTuple):
    """A block of one record."""

    epoch: int
    first_lsn: int
    commit_lsn: int
    what: str

    @property
    def last_lsn(self) -> int:
        return self.first_lsn


def chain_of(log: list[Entry], lsn: int) -> bytes:
    return repr([(e.epoch, e.what) for e in log[:lsn]]).encode()


def content_of(log: list[Entry]) -> bytes:
    """The file of a checkpoint: the state is known by the records that made it."""
    return "".join(f"{e.epoch},{e.first_lsn},{e.commit_lsn},{e.what};" for e in log).encode()


def log_of(content: bytes) -> list[Entry]:
    lines = [line.split(",") for line in content.decode().split(";") if line]
    return [Entry(int(epoch), int(lsn), int(commit_lsn), what) for epoch, lsn, commit_lsn, what in lines]


def fingerprint_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Node:
    """What survives a crash, and the living core, if any.

    `log`: all records that the state has in it; those up to `start` are in its checkpoint alone, and the journal begins
    after them. `checkpoint`: the lsn of the newest. `part`: fingerprint and bytes of a file that is being received.
    `busy`: what a backup has still to do of an installation, with the stream that it is for. `lost`: an old copy was
    put back, and its incarnation promises more than it holds.
    """

    name: str
    incarnation: str
    log: list[Entry] = field(default_factory=list)
    epoch: int = 0
    unsynced: list[Entry] = field(default_factory=list)
    core: Primary | Backup | None = None
    session: int = 0
    rollbacks: list[str] = field(default_factory=list)  # cut, and not yet on record
    start: int = 0
    checkpoint: int = 0
    state_sync: bool = False
    offered: CheckpointFile | None = None
    part: tuple[str, bytes] | None = None
    busy: tuple[deque[Any], Stream] | None = None
    cut: list[str] = field(default_factory=list)  # as a backup; told until it is on record
    told: list[str] = field(default_factory=list)  # by the backup; only in memory
    lost: bool = False

    def history(self) -> tuple[EpochEnd, ...]:
        ends: list[EpochEnd] = []
        for entry in self.log:
            if ends and ends[-1].epoch == entry.epoch:
                ends.pop()
            ends.append(EpochEnd(entry.epoch, entry.last_lsn))
        return tuple(ends)


class Stream:
    """One session's two ordered queues; `open` ends with the session, and what was sent may still arrive."""

    def __init__(self, owner: str, number: int) -> None:
        self.owner = owner
        self.number = number
        self.open = True
        self.to_backup: deque[Any] = deque()
        self.to_primary: deque[Any] = deque()


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.mood: dict[
            str, float
        ] = {}  # each world has its own taste for each kind of step, so that rare orders occur
        self.limits = LIMITS._replace(state_sync_records=self.random.choice((0, 2, NEVER, NEVER)))
        self.now = 0.0
        self.nodes = {name: Node(name, f"{name}0") for name in NODES}
        self.register = Register("c", 0, "a", {"a": "a0", "b": "b0"}, {})
        self.streams: list[Stream] = []
        self.proposals: list[tuple[str, Primary, Proposal]] = []
        self.witness_up = True
        self.acked: dict[int, Entry] = {}
        self.rolled_back: set[str] = set()
        self.operations = 0
        self.were_in_sync: set[str] = set()
        self.wipes = 0
        self.renewals = 0
        self.story: list[str] = []
        self.moves: set[tuple[str, str]] = set()

    # ---- Steps

    def choices(self) -> list[tuple[int, str, Any]]:  # noqa: C901  (one line for each thing that may happen)
        """(weight, name, action) of everything that could happen now."""
        found: list[tuple[int, str, Any]] = [(6, "time passes", self.pass_time), (1, "witness", self.toggle_witness)]
        for node in self.nodes.values():
            if node.core is None:
                found.append((4, f"restart {node.name}", lambda n=node: self.restart(n)))
                if self.may_wipe(node):
                    found.append((1, f"wipe {node.name}", lambda n=node: self.wipe(n)))
                if self.may_be_old(node):
                    found.append((1, f"old copy {node.name}", lambda n=node: self.put_old_copy_back(n)))
                continue
            found.append((1, f"crash {node.name}", lambda n=node: self.crash(n)))
            found += self.state_sync_choices(node)
            if isinstance(node.core, Primary):
                found += self.primary_choices(node, node.core)
            elif self.register.primary != node.name:
                found.append((1, f"promote {node.name}", lambda n=node: self.promote(n)))
        for stream in self.streams:
            if stream.to_backup:
                found.append((14, f"deliver to backup {stream.number}", lambda s=stream: self.deliver_to_backup(s)))
            if stream.to_primary:
                found.append((14, f"deliver to primary {stream.number}", lambda s=stream: self.deliver_to_primary(s)))
            if stream.open:
                found.append((1, f"cut {stream.number}", lambda s=stream: self.cut_stream(s)))
        for proposal in self.proposals:
            found.append((10, f"witness {proposal[2].kind}", lambda p=proposal: self.ask_witness(p)))
        return found

    def primary_choices(self, node: Node, core: Primary) -> list[tuple[int, str, Any]]:
        found: list[tuple[int, str, Any]] = []
        if core.answering and len(node.unsynced) < 2:
            found.append((8, f"append on {node.name}", lambda: self.append(node, core)))
        if node.unsynced:
            found.append((14, f"fsync {node.name}", lambda: self.fsync(node, core)))
        if core.session is None:
            found.append((6, f"connect {node.name}", lambda: self.connect(node, core)))
        if core.commit_lsn > node.checkpoint and self.limits.state_sync_records < NEVER:
            found.append((3, f"checkpoint {node.name}", lambda: self.take_checkpoint(node, core)))
        return found

    def state_sync_choices(self, node: Node) -> list[tuple[int, str, Any]]:
        found: list[tuple[int, str, Any]] = []
        if node.busy:
            found.append((6, f"install {node.name}", lambda: self.go_on(node)))
            found.append((2, f"crash installing {node.name}", lambda: self.crash_installing(node)))
        elif node.part:
            found.append((1, f"damage part {node.name}", lambda: self.damage_part(node)))
        return found

    def step(self) -> None:
        found = self.choices()
        weights = [weight * self.taste(name) for weight, name, _ in found]
        _, name, action = self.random.choices(found, weights)[0]
        self.story.append(name)
        action()
        self.check()

    def taste(self, name: str) -> float:
        if name not in self.mood:
            self.mood[name] = self.random.choice((0.1, 1.0, 1.0, 5.0))
        return self.mood[name]

    def pass_time(self) -> None:
        self.now += self.random.choice((0.05, 0.05, 0.05, 0.3, 1.2, 11.0))
        for node in self.nodes.values():
            if isinstance(node.core, Primary):
                self.perform(node, node.core.tick(self.now))

    def toggle_witness(self) -> None:
        self.witness_up = not self.witness_up or self.random.random() < 0.5

    # ---- Nodes

    def may_wipe(self, node: Node) -> bool:
        """At most one fault at a time may take a disk: the other in-sync node must be there as it was."""
        in_sync = self.register.in_sync
        others = [(self.nodes[name], mark) for name, mark in in_sync.items() if name != node.name]
        safe = any(other.incarnation == mark and not other.lost for other, mark in others)
        asking = any(name == node.name for name, _, _ in self.proposals)  # to lead alone, and then its disk goes
        return safe and not asking and self.wipes < 2

    def wipe(self, node: Node) -> None:
        self.wipes += 1
        self.nodes[node.name] = Node(node.name, f"{node.name}{self.wipes}")

    def may_be_old(self, node: Node) -> bool:
        """Only of the backup, and so old that the primary's disk knows that more was committed (see DESIGN, 7)."""
        leader = self.nodes[self.register.primary]
        in_sync = self.register.in_sync.get(leader.name) == leader.incarnation
        return leader is not node and in_sync and node.start < leader.checkpoint and self.wipes < 2 and not node.lost

    def put_old_copy_back(self, node: Node) -> None:
        self.wipes += 1
        leader = self.nodes[self.register.primary]
        length = self.random.randrange(node.start, leader.checkpoint)
        node.lost = len(node.log) > length
        node.log, node.checkpoint = node.log[:length], min(node.checkpoint, length)

    def crash_installing(self, node: Node) -> None:
        """Some of the newest segments are gone, or all of them, or all but the first have been made anew."""
        self.check_install(node)
        node.part = None
        kept = self.random.choice((len(node.log), self.random.randint(node.start, len(node.log)), 0))
        if kept < node.start:
            node.start = node.checkpoint = 0
        node.log, node.checkpoint = node.log[:kept], min(node.checkpoint, kept)
        self.crash(node)

    def check_install(self, node: Node) -> None:
        if node.incarnation in self.were_in_sync:
            raise Violated(f"renewed: {node.name} replaces its log in an incarnation that has been in sync")

    def damage_part(self, node: Node) -> None:
        assert node.part is not None
        fingerprint, content = node.part
        at = self.random.randrange(len(content) + 1)
        if self.random.random() < 0.3:
            node.part = None  # gone with the power; the core learns of it when it starts again
            self.crash(node)
        elif content[at : at + 1].isdigit():
            node.part = (fingerprint, content[:at] + (b"0" if content[at] == ord("9") else b"9") + content[at + 1 :])

    def take_checkpoint(self, node: Node, core: Primary) -> None:
        node.checkpoint = core.commit_lsn

    def crash(self, node: Node) -> None:
        node.core, node.unsynced, node.busy, node.told = None, [], None, []
        for stream in self.streams:
            if stream.owner == node.name:
                stream.open = False
                stream.to_primary.clear()
            else:
                self.cut_stream(stream)

    def restart(self, node: Node) -> None:
        if not self.witness_up:
            return
        identity = Identity("c", node.name, node.incarnation)
        if self.register.primary == node.name:
            proposal = Proposal(ProposalKind.START, node.name, node.incarnation, self.register.epoch)
            decision = decide(self.register, proposal)
            if not decision.granted:
                return
            self.register = decision.register
            self.lead(node, identity)
        else:
            epoch = max(node.epoch, self.register.epoch)
            node.epoch = epoch
            node.core = Backup(
                identity,
                epoch=epoch,
                durable_lsn=len(node.log),
                commit_lsn=node.checkpoint,
                history=node.history(),
                state_sync=node.state_sync,
                partial=node.part[0] if node.part else "",
            )

    def lead(self, node: Node, identity: Identity) -> None:
        node.epoch = self.register.epoch
        node.core = Primary(
            identity,
            self.register,
            durable_lsn=len(node.log),
            commit_lsn=node.checkpoint,
            history=node.history(),
            now=self.now,
            first_lsn=node.start + 1,
            timing=Timing(),
            limits=self.limits,
        )
        self.perform(node, node.core.started())

    def promote(self, node: Node) -> None:
        """The witness suspects the primary, rightly or not, and the backup takes over."""
        proposal = Proposal(ProposalKind.PROMOTE, node.name, node.incarnation, self.register.epoch)
        decision = decide(self.register, proposal)
        if not decision.granted or node.lost:  # DESIGN, 7: only the partner's log can tell such a copy
            return
        self.register = decision.register
        for stream in self.streams:
            if stream.owner != node.name:
                stream.to_backup.clear()
                self.cut_stream(stream)
        self.lead(node, Identity("c", node.name, node.incarnation))

    def append(self, node: Node, core: Primary) -> None:
        waiting = node.rollbacks or node.told
        what = waiting.pop(0) if waiting else f"op{self.operations}"
        self.operations += 1
        lsn = core.durable_lsn + len(node.unsynced) + 1
        node.unsynced.append(Entry(core.epoch, lsn, core.commit_lsn, what))

    def fsync(self, node: Node, core: Primary) -> None:
        entry = node.unsynced.pop(0)
        node.log.append(entry)
        self.perform(node, core.durable(entry, self.now))

    # ---- Streams

    def connect(self, node: Node, core: Primary) -> None:
        peer = self.nodes["b" if node.name == "a" else "a"]
        if not isinstance(peer.core, Backup):
            return
        node.session = max(node.session + 1, core.epoch * 1000)
        self.streams = [s for s in self.streams if s.open or s.to_backup or s.to_primary][-6:]
        self.streams.append(Stream(node.name, node.session))
        self.perform(node, core.session_opened(node.session, self.now))

    def cut_stream(self, stream: Stream) -> None:
        """The primary is told; what is under way in either direction may still arrive, later or never."""
        if not stream.open:
            return
        stream.open = False
        owner = self.nodes[stream.owner]
        if isinstance(owner.core, Primary):
            self.perform(owner, owner.core.session_lost(stream.number, "cut"))
        peer = self.nodes["b" if stream.owner == "a" else "a"]
        if isinstance(peer.core, Backup) and not peer.busy and self.random.random() < 0.7:
            self.perform(peer, peer.core.session_lost(stream.number, "cut"), stream)

    def deliver_to_backup(self, stream: Stream) -> None:
        peer = self.nodes["b" if stream.owner == "a" else "a"]
        if peer.busy:  # one message at a time
            return
        message = stream.to_backup.popleft()
        if not isinstance(peer.core, Backup) or self.random.random() < 0.02:
            return
        try:
            self.perform(peer, peer.core.received(message), stream)
        except PeerViolation:
            self.cut_stream(stream)

    def deliver_to_primary(self, stream: Stream) -> None:
        message = stream.to_primary.popleft()
        owner = self.nodes[stream.owner]
        if message is END:
            self.cut_stream(stream)
        elif isinstance(owner.core, Primary):
            try:
                self.perform(owner, owner.core.received(message, self.now))
            except PeerViolation:
                self.cut_stream(stream)

    def ask_witness(self, asked: tuple[str, Primary, Proposal]) -> None:
        self.proposals.remove(asked)
        name, core, proposal = asked
        decision = None
        if self.witness_up:
            decision = decide(self.register, proposal)
            self.register = decision.register
        answer = decision if self.random.random() > 0.2 else None
        node = self.nodes[name]
        if node.core is core:
            self.perform(node, core.witness_answered(proposal, answer, self.now))

    # ---- Effects

    def perform(self, node: Node, effects: list[Any], stream: Stream | None = None) -> None:
        core, todo = node.core, deque(effects)
        while todo and node.core is core:
            effect = todo.popleft()
            if isinstance(core, Primary):
                todo.extend(self.perform_primary(node, core, effect))
            elif isinstance(core, Backup) and isinstance(effect, fx.Install) and stream is not None:
                todo.appendleft(effect)
                node.busy = (todo, stream)
                return
            elif isinstance(core, Backup) and stream is not None:
                todo.extend(self.perform_backup(node, core, effect, stream))

    def go_on(self, node: Node) -> None:
        """A backup that installs a checkpoint gets to the end of it."""
        assert node.busy is not None
        assert isinstance(node.core, Backup)
        (todo, stream), node.busy = node.busy, None
        installing = todo.popleft()
        self.perform(node, [*self.install(node, node.core, installing), *todo], stream)

    def perform_primary(self, node: Node, core: Primary, effect: Any) -> list[Any]:  # noqa: C901  (one case an effect)
        match effect:
            case fx.RecordEpoch(epoch):
                node.epoch = max(node.epoch, epoch)
            case fx.Send(message):
                stream = self.stream_of(node.name, message.session)
                if stream:
                    stream.to_backup.append(message)
            case fx.Commit(lsn):
                self.acknowledge(node, lsn)
            case fx.Propose(proposal):
                self.proposals.append((node.name, core, proposal))
            case fx.EndSession(number, _):
                stream = self.stream_of(node.name, number)
                if stream:
                    stream.open = False
            case fx.ReadBlocks(number, from_lsn):
                if from_lsn <= node.start:
                    raise Violated(f"read: {node.name} was to read lsn {from_lsn}, and its log begins later")
                return core.blocks_read(number, tuple(node.log[from_lsn - 1 : from_lsn + 1]), self.now)
            case fx.Greet(number, lsn, wanted):
                chain = chain_of(node.log, lsn) if lsn >= node.start else b""
                return core.greeted(number, lsn, chain, self.now, self.offer(node, core, wanted) if wanted else None)
            case fx.ReadSlice(number, file, offset, size):
                content = content_of(node.log[: file.lsn])
                return core.slice_read(number, content[offset : offset + size], self.now)
            case fx.RecordRollbacks(operations):
                self.record_rollbacks(node, operations.decode().split(";"))
            case fx.SettleTail(lsn):
                self.roll_back(node, node.log[lsn:])
                node.log, node.unsynced = node.log[:lsn], []
                return core.tail_settled(lsn)
            case fx.Stop():
                self.crash(node)
            case fx.Became(state, _):
                self.moves.add(("primary", state))
                node.offered = None if state is PrimaryState.PAIRED else node.offered
                if state in (PrimaryState.PAIRED, PrimaryState.SOLO):
                    self.record_rollbacks(node, node.cut)  # of its time as a backup
        return []

    def offer(self, node: Node, core: Primary, wanted: fx.Wanted) -> CheckpointFile | None:
        kept = node.offered
        if kept and kept.fingerprint == wanted.fingerprint and kept.lsn >= wanted.from_lsn:
            return kept
        if node.checkpoint < wanted.from_lsn:
            if wanted.required:
                node.checkpoint = core.commit_lsn  # and is offered the next time
            return None
        content = content_of(node.log[: node.checkpoint])
        history = cut_history(node.history(), node.checkpoint)
        chain = chain_of(node.log, node.checkpoint)
        node.offered = CheckpointFile(node.checkpoint, chain, chain, history, len(content), fingerprint_of(content))
        return node.offered

    def record_rollbacks(self, node: Node, cut: list[str]) -> None:
        known = {entry.what for entry in (*node.log, *node.unsynced)} | {*node.rollbacks, *node.told}
        for what in cut:
            if what not in known and f"ROLLED_BACK {what}" not in known:
                self.rolled_back.add(what)
                node.told.append(f"ROLLED_BACK {what}")

    def perform_backup(self, node: Node, core: Backup, effect: Any, stream: Stream) -> list[Any]:  # noqa: C901  (as above)
        match effect:
            case fx.RecordEpoch(epoch):
                node.epoch = max(node.epoch, epoch)
            case fx.Send(message):
                if stream.open:
                    stream.to_primary.append(message)
            case fx.Align(session, lsn, chain):
                if lsn < node.start:
                    raise Violated(f"{node.name} was to be cut to lsn {lsn}, and its log begins later")
                if chain and chain_of(node.log, lsn) != chain:
                    raise Violated(f"{node.name}: the chains differ at lsn {lsn}, where the histories are the same")
                node.cut += [entry.what for entry in node.log[lsn:]]
                node.log = node.log[:lsn]
                node.cut = self.not_on_record(node, node.log)
                return core.aligned(session, lsn, ";".join(node.cut).encode())
            case fx.AppendBlocks(session, blocks):
                for block in blocks:
                    assert isinstance(block, Entry)
                    node.log.append(block)
                    core.appended(block)
                return core.executed(session)
            case fx.EndSession():
                stream.to_primary.append(END)
            case fx.Became(state, _):
                self.moves.add(("backup", state))
            case _:
                return self.sync_state(node, core, effect)
        return []

    def sync_state(self, node: Node, core: Backup, effect: Any) -> list[Any]:
        match effect:
            case fx.RenewIncarnation():
                self.renewals += 1
                node.incarnation, node.state_sync, node.lost = f"{node.name}s{self.renewals}", True, False
                core.renewed(node.incarnation)
            case fx.FindPart(session, file):
                if node.part is None or node.part[0] != file.fingerprint:
                    node.part = (file.fingerprint, b"")
                return core.part_found(session, len(node.part[1]))
            case fx.KeepSlice(session, offset, data):
                assert node.part is not None
                fingerprint, content = node.part
                node.part = (fingerprint, content[:offset] + data)
                return core.slice_kept(session, len(node.part[1]))
            case fx.TakeFingerprint(session):
                assert node.part is not None
                return core.fingerprint_taken(session, fingerprint_of(node.part[1]))
            case fx.DropPart():
                node.part = None
            case fx.EndStateSync():
                node.state_sync, node.part = False, None
        return []

    def install(self, node: Node, core: Backup, installing: fx.Install) -> list[Any]:
        self.check_install(node)
        assert node.part is not None
        node.log, node.part = log_of(node.part[1]), None
        node.start = node.checkpoint = installing.file.lsn
        return core.installed(installing.session)

    def not_on_record(self, node: Node, log: list[Entry]) -> list[str]:
        known = {entry.what for entry in log}
        return [what for what in dict.fromkeys(node.cut) if not {what, f"ROLLED_BACK {what}"} & known]

    def stream_of(self, owner: str, number: int) -> Stream | None:
        return next((s for s in self.streams if s.owner == owner and s.number == number and s.open), None)

    def acknowledge(self, node: Node, lsn: int) -> None:
        for at in range(1, lsn + 1):
            if at not in self.acked:
                self.acked[at] = node.log[at - 1]
            elif self.acked[at] != node.log[at - 1]:
                raise Violated(f"agree: lsn {at} was acknowledged as {self.acked[at]} and is {node.log[at - 1]}")

    def roll_back(self, node: Node, tail: list[Entry]) -> None:
        for entry in tail:
            self.rolled_back.add(entry.what)
            node.rollbacks.append(f"ROLLED_BACK {entry.what}")

    # ---- Invariants

    def check(self) -> None:
        self.were_in_sync |= set(self.register.in_sync.values())
        for name, mark in self.register.in_sync.items():
            node = self.nodes[name]
            if node.incarnation != mark:
                continue
            if node.state_sync:
                raise Violated(f"marked: {name} stands in the in-sync set, and may replace its log as it is")
            if node.lost:
                node.lost = any(node.log[at - 1 : at] != [entry] for at, entry in self.acked.items())
                continue
            for at, entry in self.acked.items():
                if len(node.log) < at or node.log[at - 1] != entry:
                    raise Violated(f"durable: {entry} was acknowledged and is not in {name}'s durable log")
            if self.rolled_back & {entry.what for entry in node.log}:
                raise Violated(f"rolled: what was reported as rolled back stands in {name}'s log")
        if self.rolled_back & {entry.what for entry in self.acked.values()}:
            raise Violated("rolled: an acknowledged operation was rolled back")

    # ---- Phase two

    def heal(self, steps: int = 3_000) -> None:
        """Everything is well from now on: the pair must be paired, with equal logs, by itself."""
        self.witness_up = True
        for _ in range(steps):
            if self.is_paired():
                self.check_on_record()
                return
            self.well_step()
            self.check()
        raise Violated(f"converge: not paired after {steps} steps of peace: {self.register}")

    def check_on_record(self) -> None:
        """What a backup has cut is on record as rolled back, or is about to be."""
        leader = self.nodes[self.register.primary]
        waiting = {*leader.rollbacks, *leader.told} | {entry.what for entry in leader.unsynced}
        for node in self.nodes.values():
            for what in self.not_on_record(node, leader.log):
                if f"ROLLED_BACK {what}" not in waiting:
                    raise Violated(f"told: {node.name} has cut {what}, and its ROLLED_BACK is not on record")

    def is_paired(self) -> bool:
        leader = self.nodes[self.register.primary].core
        paired = isinstance(leader, Primary) and leader.state is PrimaryState.PAIRED and leader.session is not None
        return paired and leader.session.streaming and self.nodes["a"].log == self.nodes["b"].log

    def well_step(self) -> None:  # noqa: C901  (all that goes on in peace, once)
        for node in list(self.nodes.values()):
            if node.core is None:
                self.restart(node)
                leader = self.register.primary == node.name and node.core is None
                if leader and self.register.in_sync.get(node.name) != node.incarnation:
                    self.promote_survivor(node)
            elif node.busy:
                self.go_on(node)
            elif isinstance(node.core, Primary) and node.unsynced:
                self.fsync(node, node.core)
            elif isinstance(node.core, Primary) and node.core.session is None:
                self.connect(node, node.core)
        self.now += 0.01
        for node in self.nodes.values():
            if isinstance(node.core, Primary):
                self.perform(node, node.core.tick(self.now))
        for asked in list(self.proposals):
            self.ask_witness(asked)
        for stream in list(self.streams):
            while stream.to_backup and not any(node.busy for node in self.nodes.values()):
                self.deliver_to_backup(stream)
            while stream.to_primary:
                self.deliver_to_primary(stream)

    def promote_survivor(self, wiped: Node) -> None:
        other = self.nodes["b" if wiped.name == "a" else "a"]
        if isinstance(other.core, Backup):
            self.promote(other)
        wiped_is_backup_now = self.register.primary != wiped.name
        if wiped_is_backup_now:
            self.restart(wiped)


def run(seed: int, steps: int) -> World:
    """Play one world to its end; raises Violated."""
    world = World(seed)
    for node in world.nodes.values():
        world.restart(node)
    for _ in range(steps):
        world.step()
    world.heal()
    return world
