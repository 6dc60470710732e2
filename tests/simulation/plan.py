"""What goes wrong, and when: an explicit list, made from the seed before the world begins, so that it can be shrunk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES
from ftwallet.replication.states import BackupState, PrimaryState
from tests.simulation.network import WORLD_CONTEXT
from tests.simulation.world import Violated

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World


class Fault(NamedTuple):
    """At `at` seconds `kind` happens to `target`, a node's name or a role; the two numbers are what the kind says."""

    at: float
    kind: str
    target: str
    number: float = 0.0
    word: str = ""

    def __str__(self) -> str:
        return f"{self.at:8.3f} s: {self.kind} {self.target} {self.word}".rstrip() + (
            f" ({self.number:.3g})" if self.number else ""
        )


class Plan(NamedTuple):
    """A whole world: who asks how often, and what goes wrong."""

    seed: int
    policy: str
    clients: int
    pace_s: float
    seconds: float
    faults: tuple[Fault, ...]
    crowd: int = 0  # clients who come at once, at some moment
    request_timeout_s: float = 5.0  # a short one lets requests time out that have no place in the log yet


KINDS = {
    "kill": 10,
    "power": 8,
    "stage": 14,
    "crash-op": 8,
    "pause": 4,
    "cut": 5,
    "cut-one-way": 3,
    "clog": 3,
    "witness-silent": 4,
    "answers-lost": 4,
    "witness-cut": 2,
    "supervisor-dies": 2,
    "slow-disk": 3,
    "stalled-disk": 3,
    "eio": 4,
    "full": 2,
    "wipe": 2,
    "old-copy": 2,
    "flip": 2,
    "flip-checkpoint": 2,
    "clock": 2,
    "both": 3,
    "blackout": 2,
    "record-fails": 2,
    "record-crash": 2,
    "switchover": 4,
    "at-state": 10,
    "resync": 3,
    "kill-op": 4,
    "wipe-unseen": 1,
    "flip-unseen": 1,
    "copy-unseen": 2,
}

STAGES = {"primary": PRIMARY_STAGES, "backup": BACKUP_STAGES}
STATES = (*PrimaryState, *BackupState)
STATES_OF_A_RESYNC = (BackupState.ALIGNING, BackupState.RECEIVING, BackupState.INSTALLING)
MOMENTS = (0.0, 0.001, 0.01)
ACTIONS = (
    *("kill", "power", "partner-kill", "partner-power", "pause"),
    *("cut", "break", "clog", "stalled-disk", "flip-part"),
)


def make(seed: int, only: tuple[str, ...] = ()) -> Plan:
    """The plan of a seed. Each has its own taste, so that rare orders of events occur; or `only` these kinds."""
    random = Random(f"{seed} plan")
    kinds = {kind: weight * random.choice((0.0, 0.3, 1.0, 1.0, 4.0)) for kind, weight in KINDS.items()}
    if only or not any(kinds.values()):
        kinds = {kind: weight for kind, weight in KINDS.items() if not only or kind in only}
    seconds = random.uniform(6.0, 18.0)
    faults = []
    at = random.uniform(0.2, 1.5)
    while at < seconds:
        faults.append(_fault(random, at, random.choices(list(kinds), list(kinds.values()))[0]))
        at += random.expovariate(1 / random.choice((0.05, 0.3, 1.0, 2.0)))
    policy = "promote" if random.random() < 0.75 else "restart"
    clients, pace_s = random.choice((1, 2, 4)), random.choice((0.02, 0.1, 0.4))
    crowd = random.choice((0, 0, 0, 60))
    request_timeout_s = 5.0 if only else random.choice((1.2, 2.0, 5.0))
    return Plan(seed, policy, clients, pace_s, seconds, tuple(faults[:40]), crowd, request_timeout_s)


def _fault(random: Random, at: float, kind: str) -> Fault:
    target = random.choice(("primary", "primary", "backup", "a", "b"))
    match kind:
        case "stage":
            target = random.choice(("primary", "primary", "backup"))
            return Fault(at, kind, target, word=str(random.choice(STAGES[target])))
        case "at-state":
            return Fault(at, kind, target, random.choice(MOMENTS), _word(random, STATES))
        case "resync":
            return Fault(at, kind, "backup", random.choice(MOMENTS), _word(random, STATES_OF_A_RESYNC))
        case "wipe-unseen" | "flip-unseen" | "copy-unseen":
            target = "backup"
        case "cut-one-way" | "clog":
            return Fault(at, kind, random.choice(("a", "b")), number=random.uniform(0.2, 6.0))
    return Fault(at, kind, target, number=_number(random, kind))


def _number(random: Random, kind: str) -> float:
    match kind:
        case "crash-op" | "kill-op" | "eio":
            return random.randrange(12)
        case "record-fails" | "record-crash":
            return random.randrange(6)
        case "cut" | "witness-cut" | "pause" | "witness-silent" | "answers-lost" | "slow-disk" | "full":
            return random.uniform(0.1, 5.0)
        case "stalled-disk":
            return random.choice((0.5, 2.0, 5.0))
        case "clock":
            return random.choice((-86_400.0, 86_400.0, -1.0))
        case "old-copy" | "copy-unseen":
            return random.uniform(0.5, 4.0)
    return 0.0


def _word(random: Random, states: Sequence[str]) -> str:
    return f"{random.choice(states)} {random.choice(ACTIONS)}"


async def inject(world: World, plan: Plan) -> None:
    """Let it all go wrong, each at its time."""
    for fault in plan.faults:
        await asyncio.sleep(max(0.0, fault.at - world.loop.time()))
        if world.violation is not None:
            return
        try:
            apply(world, fault)
        except Violated:
            return


def apply(world: World, fault: Fault) -> None:  # noqa: C901, PLR0915  (one case for each kind of fault)
    """Make one fault happen, where it may."""
    node, now, network = world.node(fault.target), world.loop.time(), world.network
    partner = world.partner(node)
    world.coverage[f"fault:{fault.kind}"] += 1
    match fault.kind:
        case "kill":
            world.kill(node)
        case "power":
            world.kill(node, power=True)
        case "both":
            world.kill(node, power=True)
            world.kill(partner, power=True)
        case "blackout":
            world.supervisor.die()
            for one in world.nodes.values():
                one.disk.lose_power()
            world.record_disk.lose_power()
        case "record-fails":
            world.record_disk.fail_after = int(fault.number)
        case "record-crash":
            world.record_disk.crash_after = int(fault.number)
        case "switchover":
            world.supervisor.switch_over()
        case "at-state":
            at_state(world, node, fault)
        case "resync":
            at_state(world, node, fault)
            if may_lose(world, node):
                spoil(world, node, "wipe")
        case "break":
            network.break_streams()
        case "flip-part":
            flip_part(world, node)
        case "stage":
            world.arm(node, fault.word)
        case "crash-op" | "kill-op":
            node.disk.crash_after, node.disk.crash_keeps_power = int(fault.number), fault.kind == "kill-op"
        case "eio":
            node.disk.fail_after = int(fault.number)
        case "pause":
            world.pause(node)
            network.later(fault.number, world.resume, node)
        case "cut":
            network.cut("a", "b", fault.number)
            network.cut("b", "a", fault.number)
        case "cut-one-way":
            network.cut(node.name, partner.name, fault.number)
        case "clog":
            network.clogged_until[node.name, partner.name] = now + fault.number
        case "witness-silent":
            world.witness_silent_until = now + fault.number
        case "answers-lost":
            world.answers_lost_until = now + fault.number
        case "witness-cut":
            network.cut(node.name, "supervisor", fault.number)
        case "supervisor-dies":
            world.supervisor.die()
        case "slow-disk":
            node.slow_until = now + fault.number
        case "stalled-disk":
            node.stalled_until = now + fault.number
        case "full":
            node.disk.free = 0
            network.later(fault.number, _make_room, node)
        case "clock":
            node.clock_us += int(fault.number * 1e6)
        case "wipe" | "flip" | "wipe-unseen" | "flip-unseen":
            if may_lose(world, node):
                how, _, secretly = fault.kind.partition("-")
                spoil(world, node, how)
                if secretly:
                    unseen(world, node)
        case "flip-checkpoint":
            if node.disk.has_whole_log():  # else the log is nothing without it
                node.disk.flip("checkpoints/*.checkpoint")
        case "old-copy" | "copy-unseen":
            take_copy(world, node, fault.number, seen=fault.kind == "old-copy")


def at_state(world: World, node: SimNode, fault: Fault) -> None:
    """What the fault's second word says, a moment after the node's protocol has come into the state that it names."""
    state, _, action = fault.word.partition(" ")
    partner, victim, kind = action.rpartition("partner-")[1], node, action.removeprefix("partner-")
    if partner:
        victim = world.partner(node)
    then = Fault(fault.at, kind, victim.name, {"pause": 3.0, "stalled-disk": 2.0}.get(kind, 1.5))

    def act() -> None:
        world.network.later(fault.number, apply, world, then)

    node.at_state.setdefault(state, []).append(act)


def flip_part(world: World, node: SimNode, tries: int = 40) -> None:
    """A bit of the part of a checkpoint that a backup has been sent; tried again while there is none."""
    if not node.disk.flip("checkpoints/*.part") and tries > 0:
        world.network.later(0.0005, flip_part, world, node, tries - 1)


def unseen(world: World, backup: SimNode) -> None:
    """The primary cannot tell the witness that it goes on alone, and is killed when its backup is up again."""
    primary = world.partner(backup)
    if world.register.primary != primary.name:
        return
    world.network.cut(primary.name, "supervisor", 6.0)
    WORLD_CONTEXT.run(world.loop.create_task, _kill_when_up(world, primary, backup))


async def _kill_when_up(world: World, primary: SimNode, backup: SimNode) -> None:
    came_up = await world.until(lambda: backup.is_up, 4.0)
    if came_up and world.register.primary == primary.name and not world.at_peace:
        world.kill(primary, why="is killed before it could tell the witness of its backup")


def _make_room(node: SimNode) -> None:
    node.disk.free = 1 << 40


def may_lose(world: World, node: SimNode) -> bool:
    """At most one disk is lost at a time: the partner must be in sync, run, and have all that was acknowledged."""
    register, partner = world.register, world.partner(node)
    in_sync = register.in_sync.get(partner.name) == world.incarnation(partner.name)
    spoilt = any(name in world.spoilt for name in (node.name, partner.name))
    alone = partner.name in register.in_sync and node.name not in register.in_sync
    promoted = world.config.on_primary_death == "promote" or register.primary != node.name
    return in_sync and partner.alive and not spoilt and promoted and (alone or world.paired())


def spoil(world: World, node: SimNode, how: str) -> None:
    """Take a node's disk, or a bit of it; nobody else's until the pair is paired again."""
    world.kill(node, why=f"is killed, and its disk {'is emptied' if how == 'wipe' else 'has a bit flipped'}")
    world.spoilt.add(node.name)
    if how == "wipe":
        node.disk.wipe()
        world.forget_cuts(node)  # what it had not reported yet it has forgotten
    else:
        node.disk.flip("journal/*.journal")


def take_copy(world: World, node: SimNode, seconds: float, *, seen: bool) -> None:
    """Copy a directory now, and put the copy back some starts later."""
    copy = world.root / f"copy-{world.loop.time():.4f}-{node.name}"
    node.disk.copy_to(copy)
    boot = world.register.boots.get(node.name, 0)

    def put_back() -> None:
        # A copy of the same start can be told by the partner's log alone, and the pages say so.
        newer = world.register.boots.get(node.name, 0) > boot + 1
        if newer and may_lose(world, node) and not world.at_peace:
            world.kill(node, why="is killed, and an old copy of its directory put back")
            world.spoilt.add(node.name)
            node.disk.put_back(copy)
            world.forget_cuts(node)
            if not seen:
                unseen(world, node)

    world.network.later(seconds, put_back)
