"""A node without a ledger: takes the same arguments, serves NodeControl, and misbehaves as `<node_dir>/behaviour` says.

Behaviours: "exit CODE SENTENCE" ends at once; "die" serves a moment and ends before it is up; "deaf" ignores SIGTERM;
"mute" never opens its socket; "unwilling" does not lead when it is promoted; "slow" leads then, and is ready a moment
later; "renew" takes a new incarnation when it gets SIGUSR1. Anything else, or no file: it serves, and
accepts on no port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import grpc

from ftwallet import platform
from ftwallet.journal.identity import Identity
from ftwallet.rpc.v1 import control_pb2, wallet_pb2
from ftwallet.rpc.v1.control_pb2_grpc import NodeControlServicer, add_NodeControlServicer_to_server

SLOW_S = 0.05


class FakeControl(NodeControlServicer):
    def __init__(self, node: str, role: str, incarnation: str, behaviour: str) -> None:
        self._node, self._role, self._up = node, role, behaviour != "die"
        self._incarnation, self._behaviour = incarnation, behaviour

    def renew(self) -> None:
        self._incarnation = f"{self._incarnation}-renewed"

    async def GetStatus(self, request, context):
        primary = self._role == "primary"
        up_state = "serving" if primary else "in-sync"
        return wallet_pb2.NodeStatus(
            node=self._node,
            incarnation=self._incarnation,
            role=self._role,
            state=up_state if self._up else "recovering",
            mode="paired" if primary and self._up else "",
            ready=self._up,
            durable_lsn=7,
            commit_lsn=7,
            applied_lsn=7,
            digest=bytes(32),
            pid=os.getpid(),
        )

    async def Promote(self, request, context):
        if self._behaviour == "unwilling":
            return control_pb2.PromoteReply(reason="it does not want to")
        self._role = "primary"
        if self._behaviour == "slow":
            self._up = False
            asyncio.get_running_loop().call_later(SLOW_S, setattr, self, "_up", True)
        return control_pb2.PromoteReply(promoted=True)

    async def Arm(self, request, context):
        return control_pb2.ArmReply(armed=True)

    async def Disarm(self, request, context):
        return control_pb2.ArmReply(armed=False)

    async def FindTransaction(self, request, context):
        return control_pb2.Document(json="null")

    async def Export(self, request, context):
        return control_pb2.Document(json=json.dumps([f"{request.directory}/{self._role}_wallets.json"]))

    async def Import(self, request, context):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the ledger is not empty")


async def live(node_dir: Path, node: str, role: str, behaviour: str) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, (lambda: None) if behaviour == "deaf" else over.set)
    server = grpc.aio.server()
    incarnation = Identity.load(node_dir).incarnation
    control = FakeControl(node, role, incarnation, behaviour)
    add_NodeControlServicer_to_server(control, server)
    if behaviour == "renew":
        loop.add_signal_handler(signal.SIGUSR1, control.renew)
    if behaviour != "mute":
        socket = node_dir / "control.sock"
        socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
    if behaviour == "die":
        await asyncio.sleep(0.1)
        sys.exit(1)
    await over.wait()
    await server.stop(None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role")
    parser.add_argument("--node")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--parent-pid", type=int)
    known, _ = parser.parse_known_args()
    platform.die_with_parent(known.parent_pid)
    node_dir = known.data_dir / known.node
    file = node_dir / "behaviour"
    behaviour = file.read_text() if file.exists() else ""
    print(f"fake node {known.node} as {known.role}", flush=True)
    if behaviour.startswith("exit "):
        _, code, sentence = behaviour.split(" ", 2)
        (node_dir / "exit.json").write_text(json.dumps({"code": int(code), "sentence": sentence}))
        sys.exit(int(code))
    asyncio.run(live(node_dir, known.node, known.role, behaviour))


if __name__ == "__main__":
    main()
