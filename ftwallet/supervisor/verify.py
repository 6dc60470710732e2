"""`verify`: reads both nodes' logs from disk and proves, or not, that they agree with each other and with the nodes.

It changes nothing and stops nothing, and runs in the process that asks, also when no supervisor does. Every frame is
checked on its way (checksums, lsns, hash chain over the payload). While both logs have the same chain they hold the
same records, so each block is executed once for both; what a running node says of its own ledger is held against that.

A log that begins later, because its node has had a state sync or has trimmed it, is compared wherever both nodes have
records. Where neither begins with lsn 1, what is executed begins with the oldest sound state that a node has on disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from ftwallet.errors import BrokenInvariant, DiskFault, Refused
from ftwallet.journal import NO_CHAIN, Block
from ftwallet.journal.identity import Identity
from ftwallet.journal.reader import blocks
from ftwallet.journal.recovery import Log, look
from ftwallet.journal.segments import SUFFIX
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import decode_operations
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.replication.register import Register
from ftwallet.rpc.sockets import NODE_SOCKET, open_blocking_channel, socket_path_problem
from ftwallet.rpc.v1.control_pb2_grpc import NodeControlStub
from ftwallet.rpc.v1.wallet_pb2 import NodeStatus, StatusRequest
from ftwallet.supervisor.beginnings import find_beginning
from ftwallet.supervisor.schema import SCHEMA
from ftwallet.witness.bootstrap import CLUSTER_FILE, NODES
from ftwallet.witness.file import FileWitness

_ANSWER_WITHIN_S = 1.0
_ATTEMPTS = 3  # while nodes are restarted under it, a log may be cut between two looks at it
_TELL_EVERY_BLOCKS = 1_000

Progress = Callable[[int], None]


class Copy(NamedTuple):
    """One node's side: its log (None if it cannot be read), and what its process says, if it runs."""

    node: str
    log: Log | None
    live: NodeStatus | None

    @property
    def durable_lsn(self) -> int:
        """The last lsn in its log."""
        return self.log.end.head.lsn if self.log else 0

    @property
    def commit_lsn(self) -> int:
        """The newest commit that it is known to have."""
        on_disk = self.log.end.head.commit_lsn if self.log else 0
        return max(on_disk, self.live.commit_lsn) if self.live else on_disk


def verify(data_dir: Path, progress: Progress = lambda records: None) -> dict[str, Any]:
    """Return what was compared and every difference in a sentence; `ok` is False if there is one.

    `progress` is told the number of records checked so far. Raises Refused if there is no cluster in `data_dir`.
    """
    if not any((data_dir / node).is_dir() for node in NODES):
        raise Refused(f"{data_dir} holds no cluster: `ftwallet-run up` makes one")
    for _ in range(_ATTEMPTS):
        before, begin = _register(data_dir), _oldest_segments(data_dir)
        report = _Verification(data_dir, before, progress).run()
        trimmed = _oldest_segments(data_dir) != begin
        if report["ok"] or (_register(data_dir) == before and not trimmed):
            return report
    if trimmed:
        report["differences"].append("a log was trimmed each time while it was read: verify again, or stop the wallet")
    return report


class _Verification:
    """One pass over both logs."""

    def __init__(self, data_dir: Path, register: Register | str, progress: Progress) -> None:
        self._data_dir = data_dir
        self._register = register if isinstance(register, Register) else None
        self._differences = [] if isinstance(register, Register) else [register]
        self._progress = progress
        self._state = MemoryState()
        self._ledger = Ledger(Rules(), self._state)
        self._began_at = 0
        self._adds_up = False
        self._notes: list[str] = []
        self._digests: dict[str, bytes] = {}
        self._agrees: dict[str, bool] = {}
        self._common_blocks = 0
        self._common_records = 0

    def run(self) -> dict[str, Any]:
        live = {node: _ask(self._data_dir / node / NODE_SOCKET) for node in NODES}  # first: logs only grow after it
        copies = [Copy(node, self._look(node), live[node]) for node in NODES]
        self._check_in_sync(copies)
        with self._broken():
            apart = self._apart(copies)
            compared = [copy._replace(log=None) if copy is apart else copy for copy in copies]
            self._begin(compared)
            self._walk(compared)
            self._ledger.check()
            self._adds_up = True
        return self._report(copies)

    def _look(self, node: str) -> Log | None:
        node_dir = self._data_dir / node
        try:
            identity = Identity.load(node_dir)
            if self._register is not None and identity.cluster_id != self._register.cluster_id:
                raise Refused(f"node {node} belongs to another cluster, {identity.cluster_id}")
            if not (node_dir / "journal").is_dir() and identity.epoch == 0:
                return None  # it has never been started
            return look(node_dir / "journal", identity.cluster_id)
        except (Refused, DiskFault) as error:
            self._differences.append(f"node {node}: {error}")
            return None

    def _check_in_sync(self, copies: list[Copy]) -> None:
        """What was acknowledged is on every node of the in-sync set."""
        commit_lsn = max(copy.commit_lsn for copy in copies)
        for copy in copies:
            if self._register is not None and copy.node in self._register.in_sync and copy.durable_lsn < commit_lsn:
                self._differences.append(
                    f"node {copy.node} is in the in-sync set and its log ends at lsn {copy.durable_lsn}, "
                    f"but lsn {commit_lsn} was committed"
                )

    @contextlib.contextmanager
    def _broken(self) -> Iterator[None]:
        try:
            yield
        except (DiskFault, BrokenInvariant, ValueError) as error:
            self._differences.append(str(error))

    def _begin(self, copies: list[Copy]) -> None:
        """Where no log begins with lsn 1, begin with a state on disk. Raises BrokenInvariant when there is none."""
        logs = [copy.log for copy in copies if copy.log]
        for copy in copies:
            if copy.log and copy.log.first_lsn > 1:
                self._notes.append(
                    f"node {copy.node}'s log begins with lsn {copy.log.first_lsn}: what was before came with a state "
                    "sync or was trimmed, and the node has only what it led to"
                )
        if not logs or min(log.first_lsn for log in logs) == 1:
            return
        found = find_beginning({copy.node: self._data_dir / copy.node for copy in copies}, logs)
        if found is None:
            begin = " and ".join(f"node {copy.node}'s with lsn {copy.log.first_lsn}" for copy in copies if copy.log)
            raise BrokenInvariant(f"the logs begin later, {begin}, and no node has a sound state to go on from")
        self._began_at, self._ledger, self._state, source = found
        self._notes.append(f"executed from {source} at lsn {found.lsn} on: what was before is taken as it stands there")

    def _apart(self, copies: list[Copy]) -> Copy | None:
        """A log that ends before the other one begins: it is checked by itself, and there is nothing to compare."""
        behind, ahead = sorted(copies, key=lambda copy: copy.durable_lsn)
        if behind.log is None or ahead.log is None or behind.durable_lsn + 1 >= ahead.log.first_lsn:
            return None
        for _ in blocks(behind.log, behind.log.first_lsn):
            pass
        self._notes.append(
            f"node {behind.node}'s log ends with lsn {behind.durable_lsn}, before node {ahead.node}'s begins: nothing "
            "of it can be compared, and it is sent a checkpoint when it is back"
        )
        return behind

    def _walk(self, copies: list[Copy]) -> None:
        for copy in copies:
            self._compare_live(copy, self._began_at, self._ledger.digest)
            self._end_of_log(copy, self._began_at)
        for number, pair in enumerate(_in_step([copy.log for copy in copies])):
            if not self._same(pair, max(copy.commit_lsn for copy in copies)):
                return
            block = next(block for block in pair if block is not None)
            if None not in pair:
                self._common_blocks += 1
                self._common_records += block.count
            if block.first_lsn > self._began_at:
                self._execute(copies, pair, block)
            if number % _TELL_EVERY_BLOCKS == 0:
                self._progress(block.last_lsn)

    def _execute(self, copies: list[Copy], pair: tuple[Block | None, ...], block: Block) -> None:
        self._ledger.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
        for copy, own in zip(copies, pair, strict=True):
            if own is not None or self._is_all_of(copy, block):
                self._compare_live(copy, block.last_lsn, self._ledger.digest)
                self._end_of_log(copy, block.last_lsn)

    def _is_all_of(self, copy: Copy, block: Block) -> bool:
        """Whether a log ends here without a record, as it does right after a state sync: its chain tells of what."""
        if copy.log is None or copy.durable_lsn != block.last_lsn:
            return False
        same = bool(copy.log.end.head.chain == block.chain)
        if not same:
            self._differences.append(f"the logs of both nodes differ at or before lsn {block.last_lsn}")
        return same

    def _same(self, pair: tuple[Block | None, ...], commit_lsn: int) -> bool:
        first, second = pair
        if first is None or second is None:
            return True
        if (first.first_lsn, first.last_lsn, first.chain) == (second.first_lsn, second.last_lsn, second.chain):
            return True
        if first.first_lsn > commit_lsn:  # never acknowledged: the next start cuts one of them
            self._notes.append(f"the logs part at lsn {first.first_lsn}, beyond the last commit, lsn {commit_lsn}")
        else:
            self._differences.append(f"the logs of both nodes differ from lsn {first.first_lsn} on")
        return False

    def _end_of_log(self, copy: Copy, lsn: int) -> None:
        if lsn == copy.durable_lsn:
            self._digests[copy.node] = self._ledger.digest

    def _compare_live(self, copy: Copy, lsn: int, digest: bytes) -> None:
        if copy.live is None or not copy.live.digest or copy.live.applied_lsn != lsn:
            return
        self._agrees[copy.node] = copy.live.digest == digest
        if copy.live.digest != digest:
            self._differences.append(
                f"node {copy.node} has digest {copy.live.digest.hex()} at lsn {lsn}, its log gives {digest.hex()}"
            )

    def _report(self, copies: list[Copy]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "ok": not self._differences,
            "differences": self._differences,
            "notes": self._notes,
            "records_compared": self._common_records,
            "blocks_compared": self._common_blocks,
            "executed_from_lsn": self._began_at + 1,
            "records_executed": self._ledger.applied_lsn - self._began_at,
            "accounts": sum(1 for _ in self._ledger.export_accounts()),
            "transactions": sum(1 for _ in self._state.export_transactions()),
            "balances_add_up_to_zero": self._adds_up,
            "nodes": [self._node(copy) for copy in copies],
        }

    def _node(self, copy: Copy) -> dict[str, Any]:
        return {
            "node": copy.node,
            "in_sync": self._register is not None and copy.node in self._register.in_sync,
            "first_lsn": copy.log.first_lsn if copy.log else 0,
            "durable_lsn": copy.durable_lsn,
            "commit_lsn": copy.commit_lsn,
            "chain": (copy.log.end.head.chain if copy.log else NO_CHAIN).hex(),
            "digest": self._digests.get(copy.node, b"").hex(),
            "running": copy.live is not None,
            "running_lsn": copy.live.applied_lsn if copy.live else None,
            "running_agrees": self._agrees.get(copy.node),
        }


def _in_step(logs: list[Log | None]) -> Iterator[tuple[Block | None, ...]]:
    """The blocks of all logs in order of lsn; None for a log that has no block there, as it begins later or is over."""
    readers = [blocks(log, log.first_lsn) if log else iter(()) for log in logs]
    heads = [next(reader, None) for reader in readers]
    while found := [block.first_lsn for block in heads if block is not None]:
        pair = tuple(block if block is not None and block.first_lsn == min(found) else None for block in heads)
        yield pair
        heads = [next(reader, None) if own else head for reader, own, head in zip(readers, pair, heads, strict=True)]


def _oldest_segments(data_dir: Path) -> list[str]:
    return [min((path.name for path in (data_dir / node / "journal").glob(f"*{SUFFIX}")), default="") for node in NODES]


def _register(data_dir: Path) -> Register | str:
    try:
        return FileWitness(data_dir / CLUSTER_FILE).read()
    except Refused as refusal:
        return str(refusal)


def _ask(socket: Path) -> NodeStatus | None:
    if not socket.exists() or socket_path_problem(socket):
        return None
    with open_blocking_channel(socket) as channel:
        try:
            return NodeControlStub(channel).GetStatus(StatusRequest(), timeout=_ANSWER_WITHIN_S)
        except grpc.RpcError:
            return None
