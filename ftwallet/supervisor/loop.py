"""The supervisor's one loop: everything that happens comes in as a value (`inputs.py`), and only this loop acts on it.

After each input `_advance` compares what is with what should be, and starts, kills, stops or stands in where they
differ. So an order of events that nobody thought of leads to the same place, a moment later.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from ftwallet.config import Config
from ftwallet.errors import ExitCode
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus
from ftwallet.supervisor.events import EVENTS_FILE, EventLog
from ftwallet.supervisor.fleet import Fleet
from ftwallet.supervisor.inputs import Asked, Decided, Died, Heard, Input, Signalled, Ticked
from ftwallet.supervisor.log_files import keep_short
from ftwallet.supervisor.past import Failovers
from ftwallet.supervisor.processes import SUPERVISOR_LOG, Launch, log_path, node_launch
from ftwallet.supervisor.replacement import Replacement
from ftwallet.supervisor.role_change import RoleChange
from ftwallet.supervisor.roles import BACKUP, PRIMARY, partner
from ftwallet.supervisor.sentences import cut_short_sentence, granted_sentence, mode_sentence, refused_sentence
from ftwallet.supervisor.service import Service
from ftwallet.supervisor.slots import DeathNote, Phase, Slot
from ftwallet.supervisor.stand_in import StandIn
from ftwallet.supervisor.standing import Standing
from ftwallet.supervisor.switchover import Switchover
from ftwallet.supervisor.waiters import Waiters
from ftwallet.witness.file import FileWitness

T = TypeVar("T")

_TICK_S = 0.1
_TICKS_BETWEEN_LOOKS_AT_LOGS = 100
_STAND_IN_AFTER_S = 1.0  # without a primary; before that clients just wait in the socket's backlog
_AT_ONCE_S = 1.0  # for killed processes to be gone


class Supervisor:
    """Both nodes under watch. Everything runs in one event loop, in the main thread."""

    def __init__(
        self,
        config: Config,
        register: Register,
        listener: socket.socket,
        events: EventLog,
        witness: FileWitness,
        launch: Callable[[Config, int, str, str], Launch] = node_launch,
    ) -> None:
        now = time.monotonic()
        self.config = config
        self.register = register
        self.failovers = Failovers(events, config.data_dir / EVENTS_FILE)
        self._change = RoleChange(self)
        self._replacement = Replacement(self, self._change, witness)
        self.switchover = Switchover(self, self._change, witness)
        self.events = events
        self.started_at = now
        self.service = Service(now)
        self._inputs: asyncio.Queue[Input] = asyncio.Queue()
        self.fleet = Fleet(
            config,
            events,
            lambda: self.register,
            partial(launch, config, listener.fileno()),
            self.heard,
            self._died,
        )
        self._standing = Standing(events)
        self._stand_in = StandIn(listener)
        self._gate_open = False  # the primary is started when the backup is up, or is known not to come up
        self._mode = ""
        self._exit_code: ExitCode | None = None
        self.cut_short: list[str] = []  # who was still stopping when told to stop at once
        self._stop_signals = 0
        self._stopping = False
        self._waiters = Waiters()

    # ---- What others see and ask

    @property
    def slots(self) -> dict[str, Slot]:
        """Both nodes by name."""
        return self.fleet.slots

    @property
    def primary(self) -> Slot:
        """The node that the register names as primary."""
        return self.slots[self.register.primary]

    @property
    def backup(self) -> Slot:
        """The other node."""
        return self.slots[partner(self.register.primary)]

    @property
    def ready(self) -> bool:
        """Whether clients are served: the primary answers heartbeats and says so."""
        run = self.primary.run
        if run is None or run.killed or run.status is None:
            return False
        return run.status.role == PRIMARY and run.status.ready  # no backup any more, and serving

    @property
    def mode(self) -> str:
        """Return "paired", "solo", or "" while nobody serves."""
        return self.primary.status.mode if self.primary.status is not None and self.ready else ""

    @property
    def paired(self) -> bool:
        """Whether clients are served and each answer is durable on both nodes."""
        return self.mode == "paired"

    @property
    def changing_roles(self) -> bool:
        """Whether the roles are just being changed, in a failover or a switchover."""
        return self._change.under_way

    @property
    def stopping(self) -> bool:
        """Whether everything is being stopped."""
        return self._stopping

    @property
    def all_ended(self) -> bool:
        """Whether no node has a process any more."""
        return all(slot.run is None for slot in self.slots.values())

    async def ask(self, act: Callable[[], T]) -> T:
        """Have the loop run `act` between two inputs; returns or raises what it does."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._inputs.put_nowait(Asked(act, done))
        return await done

    async def until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `true()`, looked at after every input; False when the time is over before."""
        return await self._waiters.until(true, timeout_s)

    def decided(self, proposal: Proposal, decision: Decision) -> None:
        """The witness has decided; a granted decision is durable already."""
        self._inputs.put_nowait(Decided(proposal, decision))

    def heard(self, node: str, run: int, status: NodeStatus) -> None:
        """A node has said how it stands."""
        self._inputs.put_nowait(Heard(node, run, status))

    def look_again(self) -> None:
        """Something has changed that is no input: compare what is with what should be."""
        self._inputs.put_nowait(Ticked())

    def why_not_replaced(self, slot: Slot) -> str | None:
        """Return why this primary, if it dies now, is started again in place; None when its backup is promoted."""
        return self._replacement.why_not(slot)

    def stop(self) -> None:
        """Begin an orderly stop: the primary first, then its backup. To be asked for, as `ask(supervisor.stop)`."""
        if not self._stopping:
            self._stopping = True
            self.events.record("stopping", "FT-Wallet stops: the primary first, then its backup")

    # ---- The loop

    async def run(self) -> ExitCode:
        """Start both nodes and keep them until told to stop; returns the exit code."""
        with self._signals():
            ticks = asyncio.ensure_future(self._tick())
            try:
                while self._exit_code is None:
                    self._handle(await self._inputs.get())
                    await self._advance(time.monotonic())
                    self._waiters.look()
                return self._exit_code
            finally:
                ticks.cancel()
                self._stand_in.end()

    def still_running(self) -> list[str]:
        """Return the nodes that have a process, in words, for who was still stopping."""
        return [self.fleet.name(slot) for slot in self.slots.values() if slot.run is not None]

    async def _tick(self) -> None:
        while True:
            for _ in range(_TICKS_BETWEEN_LOOKS_AT_LOGS):
                self._inputs.put_nowait(Ticked())
                await asyncio.sleep(_TICK_S)
            for name in (*self.slots, SUPERVISOR_LOG):
                with contextlib.suppress(OSError):  # a full disk: the next look may have more luck
                    await asyncio.to_thread(keep_short, log_path(self.config.data_dir, name))

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._inputs.put_nowait, Signalled())
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _died(self, node: str, run: int) -> None:
        self._inputs.put_nowait(Died(node, run))

    def _handle(self, event: Input) -> None:
        now = time.monotonic()
        match event:
            case Heard(node, run, status):
                self._handle_heard(self.slots[node], run, status, now)
            case Died(node, run):
                self._handle_death(self.slots[node], run, now)
            case Decided(proposal, decision):
                self._handle_decision(proposal, decision, now)
            case Signalled():
                self._handle_signal()
            case Asked(act, done):
                _perform(act, done)
            case Ticked():
                self._look_for_deaths(now)

    def _handle_heard(self, slot: Slot, run: int, status: NodeStatus, now: float) -> None:
        if slot.run is not None and slot.run.number == run:  # else an answer that was on its way when it died
            self.fleet.take_in(slot, status, now)

    def _handle_death(self, slot: Slot, run: int, now: float) -> None:
        if slot.run is not None and slot.run.number == run:
            self._bury(slot, now)

    def _bury(self, slot: Slot, now: float) -> None:
        asked = slot.phase is Phase.STOPPING or self._stopping
        heir = self._replacement.heir_of(slot) if slot is self.primary and not asked else None
        self.fleet.bury(slot, now, stopping=self._stopping, replaced=heir is not None)
        if heir is not None and slot.run is None:
            self._replacement.begin(slot, heir)

    def _handle_decision(self, proposal: Proposal, decision: Decision, now: float) -> None:
        led = self.primary
        self.register = _newer(self.register, decision.register)
        if self.primary is not led:
            self.fleet.has_another_role(led, now)
        if not decision.granted:
            self._handle_refusal(proposal, decision.reason)
            return
        register = decision.register
        self.events.record(
            "boot" if proposal.kind is ProposalKind.BOOT else "epoch",
            granted_sentence(proposal, register),
            proposal.node,
            epoch=register.epoch,
            proposal=str(proposal.kind),
            primary=register.primary,
            in_sync=sorted(register.in_sync),
        )

    def _handle_refusal(self, proposal: Proposal, reason: str) -> None:
        if proposal.kind is not ProposalKind.PROMOTE or self._change.is_new(reason):
            sentence = refused_sentence(proposal, reason, self.register.primary)
            self.events.record("refused", sentence, proposal.node, proposal=str(proposal.kind), reason=reason)

    def _handle_signal(self) -> None:
        self._stop_signals += 1
        if self._stop_signals == 1:
            self.stop()
            return
        self._exit_code = ExitCode.INTERRUPTED
        self.cut_short = self.still_running()
        self.events.record("stopped-at-once", f"Told twice to stop: {cut_short_sentence(self.cut_short)}")

    def _look_for_deaths(self, now: float) -> None:
        """For systems without pidfds; elsewhere the pidfd has been quicker."""
        for slot in self.slots.values():
            if slot.run is not None and slot.run.child.returncode is not None:
                self._bury(slot, now)

    # ---- What should be

    async def _advance(self, now: float) -> None:
        self._open_gate()
        self._change.end_whoever_differs(now)
        self._replacement.of_failed_primary(now)
        for slot in self.slots.values():
            self._end_hung(slot, now)
            self._start_due(slot, now)
        self._observe_service(now)
        if self._stopping:
            self._advance_stop(now)
        elif not self.changing_roles:  # who is the backup is just being decided
            self._standing.observe(self.backup, self.register)
        await self._tend_stand_in(now)

    def _open_gate(self) -> None:
        backup = self.backup
        known_not_to_come = backup.ending is not None or backup.phase in (Phase.FAILED, Phase.STOPPED)
        self._gate_open = self._gate_open or backup.up or known_not_to_come

    def _start_due(self, slot: Slot, now: float) -> None:
        if slot.phase is not Phase.WAITING or slot.run is not None or now < slot.start_at or self._stopping:
            return
        if self.changing_roles:  # its role is about to be decided
            return
        if slot is self.backup or self._gate_open:
            self.fleet.start(slot, now)

    def _end_hung(self, slot: Slot, now: float) -> None:
        run = slot.run
        if run is None or run.killed:
            return
        if slot.phase is Phase.STOPPING:
            if now > slot.stop_deadline:
                self.fleet.signal(slot, signal.SIGKILL, DeathNote.SLOW_STOP)
        elif run.pulse is None:
            if now - run.child.started_at > self.config.start_timeout_s:
                self.fleet.signal(slot, signal.SIGKILL, DeathNote.SLOW_START)
        elif run.pulse.hung(now) and not self._left_alone(slot):
            self.fleet.signal(slot, signal.SIGKILL, DeathNote.HUNG)

    def _left_alone(self, slot: Slot) -> bool:
        """A backup that was paused on purpose stays paused: the primary goes on without it, nobody waits for it.

        A paused primary keeps every client waiting, and is what a hang looks like: it is killed and started again.
        """
        return slot.paused and self.fleet.role(slot) == BACKUP

    def _observe_service(self, now: float) -> None:
        run = self.primary.run
        hung = run is not None and run.killed and self.primary.note is DeathNote.HUNG
        silent_s = run.pulse.silent_s(now) if hung and run is not None and run.pulse is not None else 0.0
        resumed = self.service.observe(self.ready, now, silent_s)
        if resumed is not None:
            gap_ms = round(resumed.gap_s * 1000, 1)
            words = "after the start" if resumed.first else f"again, after {gap_ms:,.0f} ms without a primary"
            self.events.record("serving", f"Clients are served {words}", self.register.primary, gap_ms=gap_ms)
            self.failovers.served(gap_ms)
        if self.mode and self.mode != self._mode:
            self.events.record(self.mode, mode_sentence(self.mode), self.register.primary)
        self._mode = self.mode or self._mode

    def _advance_stop(self, now: float) -> None:
        for slot in (self.primary, self.backup):
            if slot.run is None:
                slot.phase = Phase.STOPPED
                continue
            self.fleet.terminate(slot, now, start_again=False)
            return
        if self._exit_code is None:
            self._exit_code = ExitCode.OK

    async def _tend_stand_in(self, now: float) -> None:
        # From when it was noticed: a hang has lasted long by then, and the backup leads within moments from there.
        wanted = self.service.noticed_s(now) > _STAND_IN_AFTER_S and not self._stopping
        if wanted and not self._stand_in.standing_in:
            with contextlib.suppress(OSError):  # out of descriptors, perhaps: tried again at the next tick
                await self._stand_in.begin()
        elif not wanted:
            self._stand_in.end()

    async def end_all_at_once(self) -> None:
        """Kill what still runs and reap it; for the second Ctrl-C, and for an error in the loop."""
        for slot in self.slots.values():
            if slot.run is not None:
                self.fleet.signal(slot, signal.SIGKILL, DeathNote.AT_ONCE)
        give_up = time.monotonic() + _AT_ONCE_S
        while not self.all_ended and time.monotonic() < give_up:
            for slot in self.slots.values():
                self.fleet.bury(slot, time.monotonic(), stopping=True)
            await asyncio.sleep(0.01)


def _newer(one: Register, other: Register) -> Register:
    """Two decisions may be told in another order than they were made."""
    return max(one, other, key=lambda register: (register.epoch, sum(register.boots.values())))


def _perform(act: Callable[[], T], done: asyncio.Future[T]) -> None:
    if done.cancelled():  # the command's caller has gone
        return
    try:
        done.set_result(act())
    except Exception as error:  # it belongs to whoever asked
        done.set_exception(error)
