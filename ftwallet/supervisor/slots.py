"""What the supervisor knows of each node: its process, its last word, and what is to happen with it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import grpc
import psutil

from ftwallet.faults.crash import Crash
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus
from ftwallet.supervisor.heartbeat import Pulse
from ftwallet.supervisor.policy import describe
from ftwallet.supervisor.processes import Child

if TYPE_CHECKING:
    from ftwallet.rpc.v1.control_pb2_grpc import NodeControlAsyncStub

_UP_STATES = frozenset({"serving", "catching-up", "in-sync"})


class Phase(StrEnum):
    """What is happening to a node."""

    WAITING = "waiting"  # to be started at `start_at`
    RUNNING = "running"
    STOPPING = "stopping"  # asked to end in order; `start_again` says what follows
    STOPPED = "stopped"  # on purpose
    FAILED = "failed"  # given up; `reason` says why


@dataclass
class Run:
    """One life of a node's process. Times are seconds of the monotonic clock."""

    number: int
    role: str
    child: Child
    channel: grpc.aio.Channel
    control: NodeControlAsyncStub
    usage: psutil.Process | None
    heartbeats: asyncio.Task[None] | None = None
    status: NodeStatus | None = None
    pulse: Pulse | None = None
    was_up: bool = False
    killed: bool = False  # SIGKILL is on its way
    hurried_until: float = 0.0  # till then it is asked without pause whether it is ready
    hurried: asyncio.Event = field(default_factory=asyncio.Event)  # ends the pause that is under way

    def heard(self, status: NodeStatus, now: float, hung_after_s: float) -> None:
        """Take in an answer to a heartbeat."""
        self.status = status
        if self.pulse is None:
            self.pulse = Pulse(hung_after_s, now)
        self.pulse.answered(now)
        self.was_up = self.was_up or status.state in _UP_STATES


class DeathNote(StrEnum):
    """Why the supervisor itself ended a process."""

    NONE = ""
    HUNG = "it did not answer any more"
    SLOW_START = "it did not answer in time after its start"
    KILL = "ftwallet-run kill"
    NOT_RESIGNED = "a switchover could not be called off"
    NOT_PROMOTED = "it could not take over"
    SLOW_STOP = "it did not end in time when asked to"
    AT_ONCE = "the supervisor was told to stop at once"


@dataclass
class Ending:
    """How a run ended."""

    number: int
    code: int
    at: float
    sentence: str
    crash: Crash | None
    epoch: int  # the cluster's, when it ended; what is executed after the recovery has a newer one
    was_up: bool  # it had been ready
    note: DeathNote  # why the supervisor ended it, if it did

    @property
    def cause(self) -> str:
        """Why it ended, as far as anybody knows: its own last sentence before what can be told from outside."""
        how = describe(self.code)
        return self.sentence or (f"{how}: {self.note}" if self.note else how)


@dataclass
class Slot:
    """One node. `run` is None while it has no process; `last` is the newest status ever heard, for showing."""

    node: str
    phase: Phase = Phase.WAITING
    start_at: float = 0.0
    run: Run | None = None
    runs: int = 0
    early_deaths: int = 0
    start_again: bool = False
    stop_deadline: float = 0.0
    paused: bool = False
    note: DeathNote = DeathNote.NONE
    reason: str = ""
    last: NodeStatus | None = None
    ending: Ending | None = None
    hindered_since: datetime | None = None  # since when what keeps it from being promoted has been the same
    samples: dict[int, bytes] = field(default_factory=dict)  # digest by applied lsn, the newest few

    @property
    def up(self) -> bool:
        """Whether its process runs and has recovered."""
        return self.run is not None and self.run.status is not None and self.run.status.state in _UP_STATES

    @property
    def status(self) -> NodeStatus | None:
        """What the running process last said, None without one."""
        return None if self.run is None else self.run.status

    @property
    def restarts(self) -> int:
        """Starts after the first one."""
        return max(0, self.runs - 1)

    def uptime_s(self) -> float:
        """Seconds since its process was started, 0 without one."""
        return 0.0 if self.run is None else time.monotonic() - self.run.child.started_at
