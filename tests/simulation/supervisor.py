"""The witness and the supervisor of the simulated world: the shipped record and its rules, and a small watch around it.

The supervisor starts nodes again, promotes a backup whose primary has died, ends a node that hangs, and switches over
on purpose. Who may be promoted, what is recorded, and what a death leads to are shipped code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from ftwallet.errors import DiskFault, Refused
from ftwallet.node.primary import PrimaryNode
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.mapping import register_to_wire
from ftwallet.rpc.v1.control_pb2 import GoOnRequest, PassOnRequest, ResignRequest
from ftwallet.rpc.v1.wallet_pb2 import StatusRequest
from ftwallet.supervisor.policy import Death, GiveUp, Limits, after_death
from ftwallet.supervisor.promotion import hindrance, record
from ftwallet.supervisor.slots import Phase
from ftwallet.witness.bootstrap import CLUSTER_FILE
from ftwallet.witness.file import FileWitness
from tests.simulation.loop import Killed, Process

if TYPE_CHECKING:
    from tests.simulation.world import SimNode, World

_SILENT_S = 1.0
_ANSWER_WITHIN_S = 5.0


class SimWitness:
    """`WitnessPort`: the supervisor, by a network that may lose the question or the answer."""

    def __init__(self, world: World, node: SimNode) -> None:
        self._world, self._node = world, node

    async def read(self) -> Register | None:
        return await self._ask(lambda: self._world.supervisor.witness.read())

    async def propose(self, proposal: Proposal) -> Decision | None:
        return await self._ask(lambda: self._world.supervisor.propose(proposal))

    async def _ask(self, question: Callable[[], Any]) -> Any:
        world, name = self._world, self._node.name
        await asyncio.sleep(world.network.delay(name, "supervisor"))
        silent = world.witness_silent_until > world.loop.time() or world.network.is_cut(name, "supervisor")
        if silent or world.supervisor.process.dead or world.supervisor.process.paused:
            await asyncio.sleep(_SILENT_S)
            return None
        try:
            answer = world.supervisor.process.context.copy().run(question)
        except (DiskFault, Refused):  # the record could not be written: an error is the answer, and means nothing
            await asyncio.sleep(world.network.delay("supervisor", name))
            return None
        await asyncio.sleep(world.network.delay("supervisor", name))
        if world.answers_lost_until > world.loop.time() or world.network.is_cut("supervisor", name):
            await asyncio.sleep(_SILENT_S)
            return None
        return answer

    async def close(self) -> None:
        pass


class Seen(NamedTuple):
    """A node as `hindrance` looks at a slot of the supervisor."""

    node: str
    run: Any
    status: Any
    up: bool
    phase: Phase
    paused: bool


class Supervisor:
    """Watches, restarts, promotes; and is the witness."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.healed = False
        self.witness = FileWitness(world.config.data_dir / CLUSTER_FILE)
        self.process = Process("supervisor")
        self.start_at: float | None = None
        self._promoting = False
        self._random = Random(f"{world.seed} supervisor")
        self._limits = Limits(0.5, 3.0, 50)
        self._granted_epoch = 0
        self._register = self.witness.read()
        self.up()

    def up(self) -> None:
        """Start, also after a death: what was begun is finished by starting both nodes as the record says."""
        self.world.say("supervisor", "starts") if self.world.trace else None
        self.process = Process("supervisor")
        self._promoting = False
        self.start_at = None
        try:
            self._register = self.witness.read()  # not what the one before knew when it died
        except Refused as refused:
            self.world.fail(f"record: {refused}")
            return
        if hasattr(self.world, "nodes"):
            for node in self.world.nodes.values():
                node.start_at, node.given_up, node.early_deaths = self.world.loop.time(), "", 0
        self._begin(self._watch())

    def _begin(self, doing: Coroutine[Any, Any, None]) -> None:
        task = self.world.loop.create_task(doing, context=self.process.context.copy())
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, Killed):
            self.world.fail(f"supervisor: {type(error).__name__}: {error}")

    def die(self) -> None:
        """The nodes die with it."""
        if self.process.dead:
            return
        self.world.say("supervisor", "dies, and its nodes with it")
        self.process.die()
        self.world.graveyard.append(self.process)
        for node in self.world.nodes.values():
            self.world.kill(node)
        self.start_at = self.world.loop.time() + self._random.uniform(0.2, 2.0)
        self.world.network.later(self.start_at - self.world.loop.time(), self.up)

    @property
    def register(self) -> Register:
        """As this supervisor knows it."""
        return self._register

    @register.setter
    def register(self, register: Register) -> None:
        if register.epoch >= self._register.epoch:  # what another decision told meanwhile may be newer
            self._register = register

    def propose(self, proposal: Proposal) -> Decision:
        decision = self.witness.propose(proposal)
        self._decided(decision)
        if decision.granted and proposal.kind is ProposalKind.GROW:
            self.world.on_counted(self.world.nodes[proposal.peer])
        verdict = "grants" if decision.granted else "refuses"
        self.world.say("witness", f"{verdict} {proposal.node} {proposal.kind}: {_words(decision.register)}")
        return decision

    def _decided(self, decision: Decision) -> None:
        self.register = decision.register
        if decision.register.epoch < self._granted_epoch:
            self.world.fail(f"epochs: the record is back at {decision.register.epoch} after {self._granted_epoch}")
        if decision.granted:
            self._granted_epoch = decision.register.epoch

    def node_died(self, node: SimNode) -> None:
        if self.process.dead:
            return
        world, now = self.world, self.world.loop.time()
        was_up = node.control is not None and node.control.node is not None
        death = Death(int(node.code) if node.code else -9, was_up, False, node.sentence)
        verdict = after_death(death, node.early_deaths, self._limits, self._random.random())
        if isinstance(verdict, GiveUp):
            node.given_up, node.start_at = verdict.reason, None
            world.say("supervisor", f"gives {node.name} up: {verdict.reason}")
        else:
            node.early_deaths = getattr(verdict, "early_deaths", 0)
            node.start_at = now + getattr(verdict, "delay_s", 0.0) + self._random.uniform(0.2, 0.9)
        if world.register.primary == node.name:
            self._begin_promotion(node)

    def _begin_promotion(self, dead: SimNode) -> None:
        world = self.world
        if world.config.on_primary_death == "promote" and not self._promoting:
            self._promoting = True
            self._begin(self._promote(dead, world.partner(dead)))

    def _seen(self, node: SimNode) -> Any:
        status = node.node.status() if node.node is not None else None
        control = SimpleNamespace(GetStatus=lambda request, timeout: self._status(node))
        run = SimpleNamespace(killed=False, control=control) if node.alive else None
        return Seen(node.name, run, status, status is not None, Phase.RUNNING, node.paused)

    async def _status(self, node: SimNode) -> Any:
        context: Any = None  # this call does not look at it
        status = None
        if node.control is not None and node.alive:
            await asyncio.sleep(self.world.network.delay("supervisor", node.name))
            status = await self._ask(node, node.control.GetStatus(StatusRequest(), context)) if node.alive else None
        if status is None:
            raise grpc.aio.UsageError("no answer")
        return status

    async def _promote(self, dead: SimNode, heir: SimNode) -> None:
        world = self.world
        try:
            await asyncio.sleep(self._random.uniform(0.001, 0.005))
            register = self.register
            seen = self._seen(heir)
            reason = hindrance(seen, register)
            if reason is not None or register.primary != dead.name:
                world.say("supervisor", f"does not promote {heir.name}: {reason}")
                return
            proposal, decision, problem = await record(self.witness, seen, register)
            if decision is None or not decision.granted:
                world.say("supervisor", f"cannot promote {heir.name}: {problem or decision}")
                if decision is not None:
                    self.register = decision.register  # it may stand all the same
                return
            self._decided(decision)
            world.on_counted(heir)
            world.say("witness", f"grants {proposal.node} promote: {_words(decision.register)}")
            dead.given_up = ""
            if dead.start_at is None:
                dead.start_at = world.loop.time() + 0.3
            await asyncio.sleep(world.network.delay("supervisor", heir.name))
            await self._tell(heir, decision.register)
        finally:
            self._promoting = False

    async def _tell(self, heir: SimNode, register: Register) -> None:
        control = heir.control
        if control is None or not heir.alive:
            return
        process = heir.process
        reply = await self._ask(heir, control.Promote(register_to_wire(register), None))  # type: ignore[arg-type]
        if (reply is None or not reply.promoted) and heir.process is process:
            self.world.kill(heir, why="does not lead when promoted, and is killed")

    async def _ask(self, node: SimNode, call: Awaitable[Any]) -> Any:
        """The answer of a node's control socket; None when there is none in time."""
        process = node.process
        assert process is not None
        asked = self.world.loop.create_task(call, context=process.context.copy())  # type: ignore[arg-type]
        give_up = self.world.loop.time() + _ANSWER_WITHIN_S
        while not asked.done() and self.world.loop.time() < give_up and not process.dead:
            await asyncio.sleep(0.005)
        return asked.result() if asked.done() and not asked.cancelled() and asked.exception() is None else None

    def switch_over(self) -> None:
        """Have the backup lead, where the roles can be changed at all."""
        world, old, heir = self.world, self.world.primary, self.world.backup
        may = not self.process.dead and not self._promoting and old.is_up and not old.paused
        if may and hindrance(self._seen(heir), self.register) is None:
            world.say("supervisor", f"has {old.name} resign")
            self._promoting = True
            self._begin(self._switch(old, heir))

    async def _switch(self, old: SimNode, heir: SimNode) -> None:
        world, control, process = self.world, old.control, old.process
        assert control is not None
        context: Any = None  # these calls do not look at it
        try:
            reply = await self._ask(old, control.Resign(ResignRequest(), context))
            if reply is None or not reply.resigned:
                world.say("supervisor", f"does not switch over: {reply.reason if reply else 'no answer'}")
                await self._unless_dead(old, process, lambda: control.GoOn(GoOnRequest(), context))
                return
            _, decision, problem = await record(self.witness, self._seen(heir), self.register)
            if decision is None:
                if old.process is process:
                    world.kill(old, why=f"is killed, because the witness could not record: {problem}")
                return
            self._decided(decision)
            world.say("witness", f"decides on the switchover: {_words(decision.register)}")
            if decision.register.primary == old.name:
                await self._unless_dead(old, process, lambda: control.GoOn(GoOnRequest(), context))
                return
            await self._tell(heir, decision.register)
            await self._unless_dead(old, process, lambda: control.PassOn(PassOnRequest(), context))
            if old.process is process and old.outage is not None:
                old.outage.asked()
        finally:
            self._promoting = False

    async def _unless_dead(self, node: SimNode, process: Process | None, call: Callable[[], Awaitable[Any]]) -> None:
        if node.process is process and node.alive:
            await self._ask(node, call())

    async def _watch(self) -> None:
        world = self.world
        while True:
            await asyncio.sleep(0.05)
            now = world.loop.time()
            register = self.register
            if world.spoilt and world.paired():
                world.spoilt.clear()
            self._end_heir_that_does_not_lead()
            if world.primary.given_up and world.backup.is_up:
                self._begin_promotion(world.primary)
            for name in ("b", "a") if register.primary == "a" else ("a", "b"):
                node = world.nodes[name]
                role = "primary" if register.primary == name else "backup"
                self._end_hung(node, role, now)
                if node.alive or node.kept_down or node.start_at is None or now < node.start_at or self._promoting:
                    continue
                partner = world.partner(node)
                comes = not partner.alive and partner.start_at is not None and now < node.start_at + 0.5
                if role == "primary" and comes:  # the backup first
                    continue
                world.start(node, role)

    def _end_heir_that_does_not_lead(self) -> None:
        """Whatever state a backup is in that the witness has as primary: its next start leads in place."""
        heir = self.world.primary
        if not self._promoting and heir.alive and heir.role == "backup" and not isinstance(heir.node, PrimaryNode):
            self.world.kill(heir, why="has not taken over, and is killed")

    def _end_hung(self, node: SimNode, role: str, now: float) -> None:
        hangs = node.paused and node.paused_at is not None and now - node.paused_at > _SILENT_S
        if hangs and (role == "primary" or self.healed):
            self.world.kill(node, why="hangs, and is killed")


def _words(register: Register) -> str:
    return f"epoch {register.epoch}, primary {register.primary}, in sync {'+'.join(sorted(register.in_sync))}"
