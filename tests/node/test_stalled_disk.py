"""Nodes in this process, on a disk that stalls: nothing else waits for it, and nothing is told too early."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.faults.injector import Injector
from ftwallet.journal import Block, Journal, encode_block
from ftwallet.journal.frames import NO_CHAIN
from ftwallet.journal.identity import Identity
from ftwallet.ledger.operations import Kind, encode_operations, operation
from ftwallet.node.backup import BackupNode
from ftwallet.node.base import FileBase
from ftwallet.node.disk import Disk
from ftwallet.node.lead import Lead
from ftwallet.node.offering import Offering
from ftwallet.node.outage import Outage
from ftwallet.node.ports import NetworkPorts
from ftwallet.node.primary import PrimaryNode
from ftwallet.node.storage import open_storage
from ftwallet.node.witness import NearWitness, announce_start
from ftwallet.replication.messages import Begin, Blocks, Hello, HelloReply, ToPrimary
from ftwallet.replication.messages import Identity as Peer
from ftwallet.replication.primary import Primary
from ftwallet.replication.register import Decision, Proposal, ProposalKind, Register
from ftwallet.rpc.clients import PrimaryWalletClient, ReplicationStream
from ftwallet.wallet import Unavailable
from ftwallet.witness.bootstrap import ensure_cluster
from tests.faults.harness import free_ports, temporary_root

DEADLINE_S = 5.0


class Stall:
    """Calls of one function wait while it is held."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self._go = threading.Event()
        self._go.set()
        self.waiting = threading.Event()
        whole: Callable[..., object] = getattr(owner, name)

        def stalling(*args: object, **kwargs: object) -> object:
            if not self._go.is_set():
                self.waiting.set()
                self._go.wait(4 * DEADLINE_S)
            return whole(*args, **kwargs)

        monkeypatch.setattr(owner, name, stalling)

    def hold(self) -> None:
        self.waiting.clear()
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.waiting.wait, DEADLINE_S), "nothing came to the disk"


@pytest.fixture
def root() -> Iterator[Path]:
    with temporary_root() as root:
        yield root


@pytest.fixture
def config(root: Path) -> Config:
    http, primary, backup = free_ports(3)
    return Config(
        data_dir=root / "d",
        http_port=http,
        primary_grpc_port=primary,
        backup_grpc_port=backup,
        settle_timeout_s=0.1,
        ack_timeout_s=0.2,
        request_timeout_s=0.5,
    )


# ---- The primary


async def lonely_primary(config: Config, outage: Outage) -> PrimaryNode:
    """A primary that has gone solo, because there is no backup."""
    ensure_cluster(config.data_dir)
    storage = open_storage(config.node_dir("a"), config.segment_bytes)
    witness = NearWitness(config.data_dir)
    register = await announce_start(witness, ProposalKind.START, storage.identity)
    ports = NetworkPorts(config, None).primary()
    node = PrimaryNode(config, storage, register, witness, Injector(config.node_dir("a")), outage, ports)
    await node.start()
    async with asyncio.timeout(DEADLINE_S):
        while not node.status().ready:
            await asyncio.sleep(0.01)
    return node


async def test_who_waits_is_answered_in_time_while_a_mark_of_the_idle_log_stalls(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await lonely_primary(config, Outage())
    syncs = Stall(monkeypatch, platform, "fdatasync")
    try:
        assert (await node._service.deposit("u", 100, "t1")).transaction.success
        syncs.hold()
        await syncs.reached()
        with pytest.raises(Unavailable) as raised:
            async with asyncio.timeout(DEADLINE_S):
                await node._service.deposit("u", 100, "t2")
        assert raised.value.in_doubt
    finally:
        syncs.release()
        await node.abandon()


async def test_who_waits_is_answered_in_time_while_a_checkpoint_is_written(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await lonely_primary(config.model_copy(update={"checkpoint_records": 1}), Outage())
    writing = Stall(monkeypatch, platform, "rename")
    syncs = Stall(monkeypatch, platform, "fdatasync")
    try:
        writing.hold()
        assert (await node._service.deposit("u", 100, "t1")).transaction.success
        await writing.reached()
        syncs.hold()
        with pytest.raises(Unavailable):
            async with asyncio.timeout(DEADLINE_S):
                await node._service.deposit("u", 100, "t2")
    finally:
        writing.release()
        syncs.release()
        await node.abandon()


async def test_nobody_is_told_that_nothing_was_done_and_it_is_done_after_that(config: Config) -> None:
    node = await lonely_primary(config, Outage())
    service = node._service
    waiting = [service.deposit("u", 100, f"t{number}") for number in range(3)]  # in the queue, none in the log yet
    service.stop()
    service.fail_all()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(one, Unavailable) and one.in_doubt for one in told] == [False] * 3
    await asyncio.sleep(0.1)
    await node.abandon()
    assert node.ledger.balance("u") is None


class _Listener:
    def __init__(self) -> None:
        self.commits: list[int] = []
        self.failures: list[BaseException] = []

    def committed(self, lsn: int) -> None:
        self.commits.append(lsn)

    def became(self, state: str, reason: str) -> None:
        pass

    async def before_cut(self, lsn: int) -> None:
        pass

    def after_cut(self) -> None:
        pass

    def must_stop(self, reason: str, fenced: bool) -> None:
        raise AssertionError(reason)

    def failed(self, error: BaseException) -> None:
        self.failures.append(error)


class _SilentWitness:
    async def propose(self, proposal: Proposal) -> Decision | None:
        return None


async def test_answers_do_not_wait_until_the_place_in_the_log_is_found_for_a_backup_that_comes_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = Identity.create(root / "a", "c", "a")
    journal = Journal.open(root / "a" / "journal", "c")
    disk = Disk(journal, identity)
    register = Register("c", 1, "a", {"a": identity.incarnation}, {})
    core = Primary(
        Peer("c", "a", identity.incarnation), register, durable_lsn=0, commit_lsn=0, history=(), now=time.monotonic()
    )
    listener = _Listener()
    lead = Lead(core, disk, _SilentWitness(), listener, Offering(root / "a", disk, FileBase(root / "a"), lambda: None))
    looking = Stall(monkeypatch, journal, "chain_at")
    looking.hold()
    try:
        lead.start()
        async with asyncio.timeout(DEADLINE_S):
            while not lead.settled:
                await asyncio.sleep(0.01)
        lead._perform(core.session_opened(1, time.monotonic()))
        lead.received(HelloReply(1, Peer("c", "b", "b0"), 0, ()))
        await looking.reached()
        block = deposits(1, NO_CHAIN)
        await disk.append(block)
        lead.durable(block)
        assert listener.commits == [1]
    finally:
        looking.release()
        await lead.close()
        disk.close()
    assert listener.failures == []


async def test_a_backup_is_greeted_while_a_checkpoint_is_written(root: Path) -> None:
    disk = Disk(Journal.open(root / "a" / "journal", "c"), Identity.create(root / "a", "c", "a"))
    began, written = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        written.wait(2 * DEADLINE_S)

    writing = asyncio.ensure_future(disk.in_background(write))
    try:
        assert await asyncio.to_thread(began.wait, DEADLINE_S)
        async with asyncio.timeout(1.0):
            assert await disk.chain_at(0) == NO_CHAIN
    finally:
        written.set()
        await writing
        disk.close()


# ---- The backup


class Session:
    """A stream to the backup, as the primary opens it, and what came back."""

    def __init__(self, client: PrimaryWalletClient, number: int, sender: Peer, epoch: int) -> None:
        self.number = number
        self.epoch = epoch
        self.stream: ReplicationStream = client.open_stream()
        self._received: asyncio.Queue[ToPrimary] = asyncio.Queue()
        self._running = asyncio.ensure_future(self.stream.run(self._received.put_nowait))
        self.stream.send(Hello(number, epoch, sender))

    async def answer(self, timeout_s: float = DEADLINE_S) -> ToPrimary | None:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._received.get(), timeout_s)
        return None

    async def end(self) -> None:
        self.stream.end("given up")
        await self._running


@contextlib.asynccontextmanager
async def backup_node(config: Config, outage: Outage) -> AsyncIterator[tuple[BackupNode, PrimaryWalletClient, Peer]]:
    register = ensure_cluster(config.data_dir)
    storage = open_storage(config.node_dir("b"), config.segment_bytes)
    node = BackupNode(
        config, storage, register, Injector(config.node_dir("b")), outage, NetworkPorts(config, None).backup()
    )
    await node.start()
    client = PrimaryWalletClient(f"{config.grpc_host}:{config.backup_grpc_port}")
    try:
        yield node, client, Peer(register.cluster_id, "a", register.in_sync["a"])
    finally:
        await client.close()
        await node.abandon()


def deposits(first_lsn: int, chain: bytes) -> Block:
    operations = [operation(Kind.DEPOSIT, f"t{first_lsn}", "u", 100, 1)]
    return encode_block(1, first_lsn, 1, first_lsn - 1, chain, encode_operations(operations))


async def test_an_epoch_is_durable_before_it_is_answered_also_after_a_session_that_was_given_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backup_node(config, Outage()) as (_, client, primary):
        files = Stall(monkeypatch, platform, "write_atomically")
        try:
            files.hold()
            first = Session(client, 1, primary, epoch=7)
            await files.reached()
            await first.end()
            second = Session(client, 2, primary, epoch=7)
            answer = await second.answer(0.5)
            durable = Identity.load(config.node_dir("b")).epoch
            assert (answer, durable) == (None, 0), f"answered in epoch 7, and epoch {durable} is durable"
        finally:
            files.release()
        assert isinstance(await second.answer(), HelloReply)
        assert Identity.load(config.node_dir("b")).epoch == 7
        await second.end()


async def test_a_block_whose_session_was_given_up_is_executed_and_told_in_the_next(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backup_node(config, Outage()) as (node, client, primary):
        first = Session(client, 1, primary, epoch=1)
        assert isinstance(await first.answer(), HelloReply)
        first.stream.send(Begin(1, 1, 0, NO_CHAIN, True))
        assert await first.answer() is not None
        syncs = Stall(monkeypatch, platform, "fdatasync")
        syncs.hold()
        try:
            first.stream.send(Blocks(1, 1, (deposits(1, NO_CHAIN),)))
            await syncs.reached()
            await first.end()
            second = Session(client, 2, primary, epoch=1)
            await asyncio.sleep(0.2)
        finally:
            syncs.release()
        reply = await second.answer()
        assert isinstance(reply, HelloReply)
        assert (reply.durable_lsn, node.ledger.applied_lsn, node.ledger.balance("u")) == (1, 1, 100)
        await second.end()


async def test_a_disk_that_fails_under_a_session_that_was_given_up_ends_the_node(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage = Outage()
    async with backup_node(config, outage) as (_, client, primary):

        def fails(path: Path, data: bytes) -> None:
            started.set()
            ends.wait(DEADLINE_S)
            raise OSError(5, "Input/output error")

        started, ends = threading.Event(), threading.Event()
        monkeypatch.setattr(platform, "write_atomically", fails)
        first = Session(client, 1, primary, epoch=7)
        assert await asyncio.to_thread(started.wait, DEADLINE_S)
        await first.end()
        await asyncio.sleep(0.2)
        ends.set()
        async with asyncio.timeout(DEADLINE_S):
            await outage.wait()
        assert "could not be written" in outage.sentence


async def test_a_promotion_does_not_wait_for_a_checkpoint_and_the_next_one_does(config: Config) -> None:
    began, written = threading.Event(), threading.Event()

    def write() -> None:
        began.set()
        written.wait(2 * DEADLINE_S)

    async with backup_node(config, Outage()) as (node, _client, _):
        writing = asyncio.ensure_future(node._disk.in_background(write))
        assert await asyncio.to_thread(began.wait, DEADLINE_S)
        try:
            async with asyncio.timeout(DEADLINE_S):
                storage = await node.hand_over()
            disk = Disk(storage.journal, storage.identity, storage.background)
            await disk.record_epoch(7)
            next_one = asyncio.ensure_future(disk.in_background(written.is_set))
        finally:
            written.set()
        await writing
        assert await next_one
