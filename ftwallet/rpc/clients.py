"""gRPC clients of a node: of the primary towards the backup, and of a node towards the supervisor's witness."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc.aio

from ftwallet.errors import PeerViolation
from ftwallet.replication.messages import ToBackup, ToPrimary
from ftwallet.replication.register import Decision, Proposal, Register
from ftwallet.rpc.channels import is_serving, open_channel
from ftwallet.rpc.mapping import decision_from_wire, from_backup, proposal_to_wire, to_backup
from ftwallet.rpc.v1 import control_pb2, control_pb2_grpc, wallet_pb2, wallet_pb2_grpc


class ReplicationStream:
    """One session's stream. Messages go out in the order of `send`; `run` returns when the stream has ended."""

    def __init__(self, stub: wallet_pb2_grpc.WalletBackupStub) -> None:
        # The stubs know only generators; without one, gRPC gives a call to read from and write to.
        self._call: Any = stub.Replicate()  # type: ignore[call-arg]
        self._outgoing: deque[wallet_pb2.ToBackup] = deque()
        self._wake = asyncio.Event()
        self._ended = ""

    def send(self, message: ToBackup) -> None:
        """Queue a message; the protocol bounds how many are under way."""
        self._outgoing.append(to_backup(message))
        self._wake.set()

    def end(self, reason: str) -> None:
        """Close the stream at once; `run` then returns this reason."""
        self._ended = self._ended or reason
        self._call.cancel()

    async def run(self, receive: Callable[[ToPrimary], None]) -> str:
        """Hand every message of the backup to `receive` until the stream ends; returns why it ended."""
        writer = asyncio.create_task(self._write())
        try:
            return await self._read(receive)
        finally:
            writer.cancel()
            self._call.cancel()
            # A write into a stream that has just ended raises InvalidStateError; the reader says why it ended.
            with contextlib.suppress(asyncio.CancelledError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await writer

    async def _read(self, receive: Callable[[ToPrimary], None]) -> str:
        try:
            while (wire := await self._call.read()) is not grpc.aio.EOF:
                receive(from_backup(wire))
        except grpc.aio.AioRpcError as error:
            return f"the stream to the backup broke: {error.details() or error.code().name}"
        except PeerViolation as violation:
            return str(violation)
        except asyncio.CancelledError:
            if _cancelling():
                raise
            return self._ended or "the stream was closed"
        return "the backup closed the stream"

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outgoing:
                # A broken stream is told by the reader; here it only ends the writing.
                await self._call.write(self._outgoing.popleft())


class PrimaryWalletClient:
    """gRPC client of the primary to the backup's `WalletBackup`. One channel, reused by every session."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._open()

    async def is_serving(self, timeout_s: float) -> bool:
        """Whether the backup's health says SERVING within `timeout_s` seconds."""
        return await is_serving(self._channel, timeout_s)

    def open_stream(self) -> ReplicationStream:
        """Begin a stream; call it when the backup serves."""
        return ReplicationStream(self._stub)

    async def reconnect(self) -> None:
        """Take a new connection: one whose peer vanished without a word would swallow every question for ever."""
        await self._channel.close()  # first: gRPC would give its connection to a new channel to the same address
        self._open()

    async def close(self) -> None:
        """Close the channel and what runs on it."""
        await self._channel.close()

    def _open(self) -> None:
        self._channel = open_channel(self.address)
        self._stub = wallet_pb2_grpc.WalletBackupStub(self._channel)


class WitnessClient:
    """The supervisor's witness, over its unix socket. A call that times out may have been granted all the same."""

    def __init__(self, socket_target: str, timeout_s: float = 1.0) -> None:
        self._channel = open_channel(socket_target)
        self._stub = control_pb2_grpc.WitnessStub(self._channel)
        self._timeout_s = timeout_s

    async def read(self) -> Register | None:
        """The register, or None when the witness does not answer."""
        try:
            reply = await self._stub.Read(control_pb2.WitnessRead(), timeout=self._timeout_s)
        except grpc.aio.AioRpcError:
            return None
        return decision_from_wire(reply).register

    async def propose(self, proposal: Proposal) -> Decision | None:
        """The decision, or None when the witness does not answer."""
        try:
            reply = await self._stub.Propose(proposal_to_wire(proposal), timeout=self._timeout_s)
        except grpc.aio.AioRpcError:
            return None
        return decision_from_wire(reply)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
