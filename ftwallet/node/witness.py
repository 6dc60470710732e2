"""How a node reaches its witness: the supervisor's socket, or, started by hand, the cluster record itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from ftwallet.errors import DiskFault, ExitCode, Refused
from ftwallet.journal.identity import Identity
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.clients import WitnessClient
from ftwallet.rpc.sockets import address
from ftwallet.witness.bootstrap import CLUSTER_FILE
from ftwallet.witness.file import FileWitness

_RETRY_S = 0.2


class WitnessPort(Protocol):
    """The compare-and-set register; None means no answer, and a proposal may have been granted all the same."""

    async def read(self) -> Register | None:
        """The register."""

    async def propose(self, proposal: Proposal) -> Decision | None:
        """The decision on a proposal."""

    async def close(self) -> None:
        """Let go of it."""


class NearWitness:
    """The cluster record of this data directory, for nodes started by hand."""

    def __init__(self, data_dir: Path) -> None:
        self._file = FileWitness(data_dir / CLUSTER_FILE)

    async def read(self) -> Register | None:
        """The register. Raises Refused when the record is lost or damaged."""
        return await asyncio.to_thread(self._file.read)

    async def propose(self, proposal: Proposal) -> Decision | None:
        """The decision; None when the record could not be written, or read."""
        try:
            return await asyncio.to_thread(self._file.propose, proposal)
        except (DiskFault, Refused):
            return None

    async def close(self) -> None:
        """Nothing to let go of."""


def open_witness(data_dir: Path, supervisor_socket: Path | None) -> WitnessPort:
    """The witness of a node: near when no supervisor started it."""
    return NearWitness(data_dir) if supervisor_socket is None else WitnessClient(address(supervisor_socket))


async def announce_start(witness: WitnessPort, kind: ProposalKind, identity: Identity) -> Register:
    """Have the witness count this start, and for a primary grant it a new epoch. Waits for a silent witness.

    The number that the start will have is durable here before the witness counts it: a crash in between leaves a
    directory that is ahead of the witness, never one that looks like an old copy.

    Raises Refused when the register does not let this node start in this role.
    """
    while True:
        register = await witness.read()
        if register is not None:
            boot = register.boots.get(identity.node, 0) + 1
            await asyncio.to_thread(identity.record_boot, boot)
            proposal = Proposal(kind, identity.node, identity.incarnation, register.epoch, boot=boot)
            decision = await witness.propose(proposal)
            if decision is not None and decision.granted:
                return decision.register
            if decision is not None and decision.register.epoch == register.epoch:
                raise Refused(
                    f"node {identity.node} may not start as primary: {decision.reason}. Put back the directory of a "
                    "node that is in sync",
                    ExitCode.WRONG_DIRECTORY,
                )
        await asyncio.sleep(_RETRY_S)
