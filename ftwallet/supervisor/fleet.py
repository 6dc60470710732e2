"""The two nodes' processes: starting, signalling, burying. What to do is decided in `loop.py` and `policy.py`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable

import psutil

from ftwallet.config import Config
from ftwallet.errors import ExitCode
from ftwallet.faults.crash import Crash
from ftwallet.replication.register import Register
from ftwallet.rpc.sockets import NODE_SOCKET, open_channel
from ftwallet.rpc.v1.control_pb2_grpc import NodeControlStub
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus
from ftwallet.supervisor import obituary
from ftwallet.supervisor.events import EventLog
from ftwallet.supervisor.heartbeat import beat
from ftwallet.supervisor.policy import Death, GiveUp, Limits, Restart, Stay, Verdict, after_death, describe, signal_name
from ftwallet.supervisor.ports import taken_sentence
from ftwallet.supervisor.processes import Child, Launch, log_path
from ftwallet.supervisor.roles import PRIMARY, role_of
from ftwallet.supervisor.slots import DeathNote, Ending, Phase, Run, Slot
from ftwallet.witness.bootstrap import NODES

_IMPATIENT_PAUSE_S = 0.03  # between heartbeats of a node that does not serve yet: clients are waiting for it
_HURRIED_PAUSE_S = 0.005
_HURRIED_FOR_S = 5.0
_SAMPLES = 64

Heard = Callable[[str, int, NodeStatus], None]
Died = Callable[[str, int], None]


class Fleet:
    """Both nodes. Not thread-safe: the one loop alone calls it, in the main thread."""

    def __init__(
        self,
        config: Config,
        events: EventLog,
        register: Callable[[], Register],
        launch: Callable[[str, str], Launch],
        heard: Heard,
        died: Died,
    ) -> None:
        self._config = config
        self._events = events
        self._register = register
        self._launch = launch
        self._heard = heard
        self._died = died
        self.slots = {node: Slot(node) for node in NODES}

    def role(self, slot: Slot) -> str:
        """Return the role that a node has, or would be started in."""
        return slot.run.role if slot.run else role_of(slot.node, self._register().primary)

    def name(self, slot: Slot) -> str:
        """Return a node's name for sentences, such as "node a (primary)"."""
        return f"node {slot.node} ({self.role(slot)})"

    def start(self, slot: Slot, now: float) -> None:
        """Start a node in the role that the register gives it."""
        role = role_of(slot.node, self._register().primary)
        node_dir = self._config.node_dir(slot.node)
        obituary.forget(node_dir)
        try:
            child = Child.start(self._launch(slot.node, role))
        except OSError as error:
            self._could_not_start(slot, error, now)
            return
        slot.runs += 1
        slot.run = run = self._run(slot, role, child)
        slot.phase, slot.start_again, slot.paused, slot.note = Phase.RUNNING, False, False, DeathNote.NONE
        slot.samples.clear()
        child.watch(lambda: self._died(slot.node, run.number))
        run.heartbeats = asyncio.ensure_future(self._keep_asking(slot, run))
        self._events.record(
            "node-started", f"Node {slot.node} started as {role}, pid {child.pid}", slot.node, role=role, pid=child.pid
        )

    def take_in(self, slot: Slot, status: NodeStatus, now: float) -> None:
        """Take in an answer to a heartbeat and record what it changed."""
        run = slot.run
        if run is None:
            return
        before, was_up = run.status, run.was_up
        run.heard(status, now, self._config.hung_after_s)
        if status.digest:  # a node that is just starting has no ledger yet
            slot.last = status
            self._sample(slot, status)
        if run.was_up and not was_up:
            slot.early_deaths, slot.reason = 0, ""
            took = now - run.child.started_at
            sentence = f"{_upper(self.name(slot))} is up after {took:.2f} s"
            self._events.record("node-up", sentence, slot.node, took_s=round(took, 3))
        if before is None or before.state != status.state:
            self._state_changed(slot, status)

    def hurry(self, slot: Slot) -> None:
        """Ask a node that has just been promoted until it is ready.

        Its next heartbeat may be far away, and what nobody has heard of counts as a gap.
        """
        if slot.run is not None:
            slot.run.hurried_until = time.monotonic() + _HURRIED_FOR_S
            slot.run.hurried.set()

    def signal(self, slot: Slot, number: int, note: DeathNote) -> bool:
        """Send a signal to a node's process; False if it has ended already."""
        run = slot.run
        if run is None or not run.child.send(number):
            return False
        slot.note = note
        run.killed = run.killed or number == signal.SIGKILL
        self._events.record(
            "signal",
            f"{_upper(self.name(slot))}, pid {run.child.pid}, was sent {signal_name(number)}: {note}",
            slot.node,
            signal=signal_name(number),
            cause=str(note),
        )
        return True

    def terminate(self, slot: Slot, now: float, *, start_again: bool) -> None:
        """Ask a node to end in order; what follows is decided when it has."""
        slot.start_again = start_again
        if slot.run is None:
            slot.phase = Phase.WAITING if start_again else Phase.STOPPED
            slot.start_at, slot.early_deaths = now, 0
            return
        if slot.phase is not Phase.STOPPING:
            slot.phase, slot.stop_deadline = Phase.STOPPING, now + self._config.stop_timeout_s
            slot.run.child.send(signal.SIGTERM)
            self.resume(slot)  # a stopped process would never see the request
            self._events.record("node-stopping", f"{_upper(self.name(slot))} is asked to stop", slot.node)

    def pause(self, slot: Slot) -> bool:
        """Stop a node's process where it is (SIGSTOP); False if it has ended."""
        if slot.run is None or not slot.run.child.send(signal.SIGSTOP):
            return False
        slot.paused = True
        self._events.record("node-paused", f"{_upper(self.name(slot))} is paused (SIGSTOP)", slot.node)
        return True

    def resume(self, slot: Slot) -> bool:
        """Let a node's process go on (SIGCONT); False if it has ended."""
        if slot.run is None or not slot.run.child.send(signal.SIGCONT):
            return False
        if slot.run.pulse is not None:
            slot.run.pulse.answered(time.monotonic())
        if slot.paused:
            slot.paused = False
            self._events.record("node-resumed", f"{_upper(self.name(slot))} goes on (SIGCONT)", slot.node)
        return True

    def bury(self, slot: Slot, now: float, *, stopping: bool, replaced: bool = False) -> None:
        """Take in that a node's process has ended, and decide what follows.

        `replaced`: its partner is about to take over, so this one gets another role, and a fresh try in it.
        """
        run = slot.run
        if run is None or (code := run.child.returncode) is None:
            return
        sentence = self._last_sentence(slot, run, code)
        crash = obituary.armed_crash(self._config.node_dir(slot.node))
        slot.ending = Ending(run.number, code, now, sentence, crash, self._register().epoch, run.was_up, slot.note)
        death = Death(code, run.was_up, _asked(slot, stopping), sentence)
        self._close(run)
        self._record_death(slot, run, death, crash)
        slot.run = None
        if slot.phase is Phase.STOPPING and slot.start_again and not stopping:
            slot.phase, slot.start_at, slot.early_deaths = Phase.WAITING, now, 0
        elif replaced:
            slot.phase, slot.start_at, slot.reason = Phase.WAITING, now, sentence
        else:
            self._follow(slot, death, now)

    def not_replaced(self, slot: Slot, now: float) -> None:
        """Its partner does not take over after all: what follows is what follows any death."""
        ending = slot.ending
        if slot.run is None and slot.phase is Phase.WAITING and ending is not None:
            self._follow(slot, Death(ending.code, ending.was_up, False, ending.sentence), now)

    def has_another_role(self, slot: Slot, now: float) -> None:
        """A node that was given up has a fresh try in the role that the register gives it now."""
        if slot.phase is Phase.FAILED:
            slot.phase, slot.start_at = Phase.WAITING, now

    def foretold(self, slot: Slot, code: int, *, stopping: bool) -> Verdict:
        """Return what would follow if a node's process ended now with this code; any jitter is the middle one."""
        was_up = slot.run is not None and slot.run.was_up
        return self._verdict(slot, Death(code, was_up, _asked(slot, stopping)), 0.5)

    def _verdict(self, slot: Slot, death: Death, jitter: float) -> Verdict:
        config = self._config
        limits = Limits(config.restart_backoff_s, config.restart_backoff_max_s, config.crash_loop_deaths)
        return after_death(death, slot.early_deaths, limits, jitter)

    def _follow(self, slot: Slot, death: Death, now: float) -> None:
        match self._verdict(slot, death, random.random()):
            case Stay():
                slot.phase = Phase.STOPPED
            case GiveUp(reason):
                slot.phase, slot.reason = Phase.FAILED, reason
                self._events.record(
                    "node-failed", f"{_upper(self.name(slot))} is given up: {reason}", slot.node, reason=reason
                )
            case Restart(delay_s, early_deaths):
                slot.phase, slot.start_at, slot.early_deaths = Phase.WAITING, now + delay_s, early_deaths
                slot.reason = death.sentence
                if delay_s:
                    self._events.record(
                        "node-backoff",
                        f"{_upper(self.name(slot))} is started again in {delay_s:.1f} s, after "
                        f"{early_deaths} death{'s' if early_deaths > 1 else ''} before it was ready",
                        slot.node,
                        delay_s=delay_s,
                        early_deaths=early_deaths,
                    )

    def _run(self, slot: Slot, role: str, child: Child) -> Run:
        channel = open_channel(self._config.node_dir(slot.node) / NODE_SOCKET)
        return Run(slot.runs, role, child, channel, NodeControlStub(channel), _usage(child.pid))

    async def _keep_asking(self, slot: Slot, run: Run) -> None:
        def heard(status: NodeStatus) -> None:
            self._heard(slot.node, run.number, status)

        async with run.channel:
            await beat(run.control, self._config.hung_after_s, lambda: self._pause(run), heard)

    async def _pause(self, run: Run) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run.hurried.wait(), self._pause_s(run))
        run.hurried.clear()

    def _pause_s(self, run: Run) -> float:
        status, usual = run.status, self._config.heartbeat_interval_s
        if time.monotonic() < run.hurried_until and (status is None or not status.ready):
            return min(_HURRIED_PAUSE_S, usual)
        serves = status is not None and run.was_up and (status.ready or run.role != PRIMARY)
        return usual if serves else min(_IMPATIENT_PAUSE_S, usual)

    def _could_not_start(self, slot: Slot, error: OSError, now: float) -> None:
        sentence = f"its process could not be started: {error.strerror}"
        self._events.record("node-died", f"{_upper(self.name(slot))}: {sentence}", slot.node)
        self._follow(slot, Death(ExitCode.FAILED, False, False, sentence), now)

    def _last_sentence(self, slot: Slot, run: Run, code: int) -> str:
        if code != ExitCode.PORT_TAKEN:
            sentence = obituary.last_sentence(self._config.node_dir(slot.node))
            return sentence or obituary.last_line(log_path(self._config.data_dir, slot.node), code)
        key = f"{run.role}_grpc_port"
        return taken_sentence(self._config.grpc_host, getattr(self._config, key), key)

    def _record_death(self, slot: Slot, run: Run, death: Death, crash: Crash | None) -> None:
        how = describe(death.code)
        if crash is not None:
            how += f" at the armed stage {crash.stage} of transaction {crash.transaction_id}"
        cause = f" ({slot.note})" if slot.note else ""
        words = f": {death.sentence}" if death.sentence else ""
        kind, verb = ("node-stopped", "ended") if slot.phase is Phase.STOPPING else ("node-died", "died")
        self._events.record(
            kind,
            f"{_upper(self.name(slot))}, pid {run.child.pid}, {verb}: {how}{cause}{words}",
            slot.node,
            code=death.code,
            role=run.role,
            cause=str(slot.note),
            stage=crash.stage if crash else None,
            transaction_id=crash.transaction_id if crash else None,
        )

    def _state_changed(self, slot: Slot, status: NodeStatus) -> None:
        reason = f": {status.reason}" if status.reason else ""
        self._events.record(
            "node-state", f"{_upper(self.name(slot))} is {status.state}{reason}", slot.node, state=status.state
        )

    def _sample(self, slot: Slot, status: NodeStatus) -> None:
        slot.samples[status.applied_lsn] = status.digest
        if len(slot.samples) > _SAMPLES:
            del slot.samples[next(iter(slot.samples))]

    def _close(self, run: Run) -> None:
        if run.heartbeats is not None:
            run.heartbeats.cancel()
        run.child.close()


def _asked(slot: Slot, stopping: bool) -> bool:
    """Tell whether a node that ends now was asked to, and not to come back."""
    return stopping or (slot.phase is Phase.STOPPING and not slot.start_again)


def _usage(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        process.cpu_percent()  # the first call only sets the mark that the next one measures from
    except psutil.Error:
        return None
    return process


def _upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
