"""The command line's end of the control socket: blocking calls, and each failure as one sentence with what to do."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import grpc

from ftwallet.errors import ExitCode, Refused
from ftwallet.journal.identity import lock_holder
from ftwallet.rpc.sockets import SUPERVISOR_SOCKET, check_socket_paths, open_blocking_channel
from ftwallet.rpc.v1 import control_pb2 as pb
from ftwallet.rpc.v1.control_pb2_grpc import SupervisorStub
from ftwallet.rpc.v1.wallet_pb2 import StatusRequest
from ftwallet.supervisor.order import Order
from ftwallet.supervisor.schema import Document

_STATUS_DEADLINE_S = 5.0
_STOP_DEADLINE_S = 120.0
_FILES_DEADLINE_S = 660.0
_STORY_SLACK_S = 180.0


class NoSupervisor(Refused):
    """Nobody listens on the control socket."""

    def __init__(self, data_dir: Path) -> None:
        holder = lock_holder(data_dir)
        state = "start it with `ftwallet-run up -d`, or name another directory with --data-dir"
        if holder:
            state = f"the supervisor with pid {holder.pid} is just starting or stopping: try again in a moment"
        elif data_dir.exists() and not os.access(data_dir, os.R_OK | os.W_OK | os.X_OK):
            state = f"{data_dir} belongs to another user, and only that user can command it"
        super().__init__(f"no supervisor answers for the data directory {data_dir}: {state}", ExitCode.NO_SUPERVISOR)


class SupervisorClient:
    """A connection to the supervisor of one data directory. Making it and every call raise NoSupervisor or Refused."""

    def __init__(self, data_dir: Path) -> None:
        check_socket_paths(data_dir)
        self._data_dir = data_dir
        self._channel = open_blocking_channel(data_dir / SUPERVISOR_SOCKET)
        self._stub = SupervisorStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._channel.close()

    def status(self) -> Document:
        """Return the status document."""
        with self._failures():
            return _load(self._stub.GetStatus(StatusRequest(), timeout=_STATUS_DEADLINE_S))

    def kill(self, order: Order) -> Iterator[Document]:
        """Carry out the order; yields its steps as they happen."""
        with self._failures():
            for step in self._stub.Kill(pb.KillRequest(**order._asdict()), timeout=order.timeout_s + _STORY_SLACK_S):
                yield _load(step)

    def signal(self, role: str, number: int) -> Document:
        """Pause (SIGSTOP) or resume (SIGCONT) a node."""
        with self._failures():
            return _load(self._stub.Signal(pb.SignalRequest(role=role, signal=number), timeout=_STATUS_DEADLINE_S))

    def restart(self, role: str) -> Document:
        """Restart a node in order; returns when it is back."""
        with self._failures():
            return _load(self._stub.Restart(pb.RoleRequest(role=role), timeout=_STOP_DEADLINE_S))

    def what_if_killed(self, role: str) -> Document:
        """Return what would happen if a node were killed now; nothing is done."""
        with self._failures():
            return _load(self._stub.WhatIfKilled(pb.RoleRequest(role=role), timeout=_STATUS_DEADLINE_S))

    def switchover(self) -> Document:
        """Have the backup take the primary's place; returns when the pair is paired again."""
        with self._failures():
            return _load(self._stub.Switchover(pb.SwitchoverRequest(), timeout=_STOP_DEADLINE_S))

    def stop(self) -> Document:
        """Stop everything in order; the supervisor ends a moment later."""
        with self._failures():
            return _load(self._stub.Stop(pb.StopRequest(), timeout=_STOP_DEADLINE_S))

    def export(self, directory: Path) -> Document:
        """Write the readable files into a directory."""
        with self._failures():
            return _load(self._stub.Export(pb.ExportRequest(directory=str(directory)), timeout=_FILES_DEADLINE_S))

    def import_files(self, wallets: Path, transactions: Path | None) -> Document:
        """Import readable files into an empty ledger."""
        request = pb.ImportRequest(wallets_path=str(wallets), transactions_path=str(transactions or ""))
        with self._failures():
            return _load(self._stub.Import(request, timeout=_FILES_DEADLINE_S))

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: grpc.RpcError) -> Refused:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            return NoSupervisor(self._data_dir)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            holder = lock_holder(self._data_dir)
            pid = f" (pid {holder.pid})" if holder else ""
            return Refused(f"the supervisor{pid} does not answer in time: is it stopped? `ps` shows its state")
        return Refused(details or str(code))


def _load(document: pb.Document) -> Document:
    loaded: Document = json.loads(document.json)
    return loaded
