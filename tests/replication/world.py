"""A small world in one process, made from one seed, in which the shipped protocol objects run: two nodes and a witness.

Every step is drawn at random from what could happen next: a client's operation, an fsync, a message delivered or its
stream cut, a crash that loses what was not synced, a restart, a promotion (also of a living primary's backup: a false
suspicion), a witness that does not answer or whose answer is lost, an emptied data directory. After every step the
invariants of DESIGN's "The pair" are checked; `heal` then lets everything be well and requires the pair to be paired.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ftwallet.errors import PeerViolation
from ftwallet.replication import effects as fx
from ftwallet.replication.backup import Backup
from ftwallet.replication.messages import EpochEnd, Identity
from ftwallet.replication.primary import Limits, Primary, Timing
from ftwallet.replication.register import Proposal, ProposalKind, Register, decide
from ftwallet.replication.states import PrimaryState

NODES = ("a", "b")


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


@dataclass
class Node:
    """What survives a crash (log, epoch, incarnation), and the living core, if any."""

    name: str
    incarnation: str
    log: list[Entry] = field(default_factory=list)
    epoch: int = 0
    unsynced: list[Entry] = field(default_factory=list)
    core: Primary | Backup | None = None
    session: int = 0
    rollbacks: list[str] = field(default_factory=list)  # cut, and not yet on record

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
        self.now = 0.0
        self.nodes = {name: Node(name, f"{name}0") for name in NODES}
        self.register = Register("c", 0, "a", {"a": "a0", "b": "b0"}, {})
        self.streams: list[Stream] = []
        self.proposals: list[tuple[str, Primary, Proposal]] = []
        self.witness_up = True
        self.acked: dict[int, Entry] = {}
        self.rolled_back: set[str] = set()
        self.operations = 0
        self.wipes = 0
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
                continue
            found.append((1, f"crash {node.name}", lambda n=node: self.crash(n)))
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
        safe = any(name != node.name and self.nodes[name].incarnation == mark for name, mark in in_sync.items())
        asking = any(name == node.name for name, _, _ in self.proposals)  # to lead alone, and then its disk goes
        return safe and not asking and self.wipes < 2

    def wipe(self, node: Node) -> None:
        self.wipes += 1
        self.nodes[node.name] = Node(node.name, f"{node.name}{self.wipes}")

    def crash(self, node: Node) -> None:
        node.core, node.unsynced = None, []
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
            node.core = Backup(identity, epoch=epoch, durable_lsn=len(node.log), commit_lsn=0, history=node.history())

    def lead(self, node: Node, identity: Identity) -> None:
        node.epoch = self.register.epoch
        node.core = Primary(
            identity,
            self.register,
            durable_lsn=len(node.log),
            commit_lsn=0,
            history=node.history(),
            now=self.now,
            timing=Timing(),
            limits=Limits(outstanding=4, reading=2, near=2),
        )
        self.perform(node, node.core.started())

    def promote(self, node: Node) -> None:
        """The witness suspects the primary, rightly or not, and the backup takes over."""
        proposal = Proposal(ProposalKind.PROMOTE, node.name, node.incarnation, self.register.epoch)
        decision = decide(self.register, proposal)
        if not decision.granted:
            return
        self.register = decision.register
        for stream in self.streams:
            if stream.owner != node.name:
                stream.to_backup.clear()
                self.cut_stream(stream)
        self.lead(node, Identity("c", node.name, node.incarnation))

    def append(self, node: Node, core: Primary) -> None:
        what = node.rollbacks.pop(0) if node.rollbacks else f"op{self.operations}"
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
        if isinstance(peer.core, Backup) and self.random.random() < 0.7:
            self.perform(peer, peer.core.session_lost(stream.number, "cut"), stream)

    def deliver_to_backup(self, stream: Stream) -> None:
        message = stream.to_backup.popleft()
        peer = self.nodes["b" if stream.owner == "a" else "a"]
        if not isinstance(peer.core, Backup) or self.random.random() < 0.02:
            return
        try:
            self.perform(peer, peer.core.received(message), stream)
        except PeerViolation:
            self.cut_stream(stream)

    def deliver_to_primary(self, stream: Stream) -> None:
        message = stream.to_primary.popleft()
        owner = self.nodes[stream.owner]
        if isinstance(owner.core, Primary):
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
            elif isinstance(core, Backup) and stream is not None:
                todo.extend(self.perform_backup(node, core, effect, stream))

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
                return core.blocks_read(number, tuple(node.log[from_lsn - 1 : from_lsn + 1]), self.now)
            case fx.Greet(number, lsn):
                return core.greeted(number, lsn, chain_of(node.log, lsn), self.now)
            case fx.SettleTail(lsn):
                self.roll_back(node, node.log[lsn:])
                node.log, node.unsynced = node.log[:lsn], []
                return core.tail_settled(lsn)
            case fx.Stop():
                self.crash(node)
            case fx.Became(state, _):
                self.moves.add(("primary", state))
        return []

    def perform_backup(self, node: Node, core: Backup, effect: Any, stream: Stream) -> list[Any]:
        match effect:
            case fx.RecordEpoch(epoch):
                node.epoch = max(node.epoch, epoch)
            case fx.Send(message):
                if stream.open:
                    stream.to_primary.append(message)
            case fx.Align(session, lsn, chain):
                if chain_of(node.log, lsn) != chain:
                    raise Violated(f"{node.name}: the chains differ at lsn {lsn}, where the histories are the same")
                node.log = node.log[:lsn]
                return core.aligned(session, lsn)
            case fx.AppendBlocks(session, blocks):
                for block in blocks:
                    assert isinstance(block, Entry)
                    node.log.append(block)
                    core.appended(block)
                return core.executed(session)
            case fx.Became(state, _):
                self.moves.add(("backup", state))
        return []

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
        for name, mark in self.register.in_sync.items():
            node = self.nodes[name]
            if node.incarnation != mark:
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
                return
            self.well_step()
            self.check()
        raise Violated(f"converge: not paired after {steps} steps of peace: {self.register}")

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
            while stream.to_backup:
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
