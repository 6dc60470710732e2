"""Everything that can happen to the supervisor, as values in one queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from ftwallet.replication.register import Decision, Proposal
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus


class Ticked(NamedTuple):
    """Time has passed."""


class Signalled(NamedTuple):
    """The supervisor itself got a signal, and any of them tells it to stop."""


class Died(NamedTuple):
    """The process of a node's N-th run has ended."""

    node: str
    run: int


class Heard(NamedTuple):
    """A node answered a heartbeat."""

    node: str
    run: int
    status: NodeStatus


class Decided(NamedTuple):
    """The witness decided on a proposal; what it granted is durable."""

    proposal: Proposal
    decision: Decision


class Asked(NamedTuple):
    """A command's step: `act` runs in the loop, its value or its error goes into `done`."""

    act: Callable[[], Any]
    done: asyncio.Future[Any]


Input = Ticked | Signalled | Died | Heard | Decided | Asked
