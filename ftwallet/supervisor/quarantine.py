"""`quarantine`: what both nodes have set aside, each transaction in it, and what became of it since.

It runs in the process that asks and needs no supervisor. Only a running node can tell what became of an id: the primary
is asked, or its partner where the primary does not answer.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc

from ftwallet.api.answers import transaction_body
from ftwallet.errors import Refused
from ftwallet.journal.set_aside import Blocks, Copy, copies
from ftwallet.ledger.imports import imported_outcome
from ftwallet.ledger.operations import Body, Kind, Operation, decode_operations, rolled_back_body
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction
from ftwallet.rpc.sockets import NODE_SOCKET, open_blocking_channel, socket_path_problem
from ftwallet.rpc.v1.control_pb2 import FindRequest
from ftwallet.rpc.v1.control_pb2_grpc import NodeControlStub
from ftwallet.supervisor.events import rfc3339
from ftwallet.supervisor.roles import partner
from ftwallet.supervisor.schema import SCHEMA, Document
from ftwallet.witness.bootstrap import CLUSTER_FILE, NODES
from ftwallet.witness.file import FileWitness

_ANSWER_WITHIN_S = 2.0
_QUARANTINE = "quarantine"
_NO_TRANSACTIONS = frozenset({Kind.CHANGED_RULES, Kind.IMPORTED_BALANCE, Kind.GROUP, Kind.EXPIRE})
_ASKED = ("account_id", "amount", "legs", "hold_id", "to_account_id", "release_rest")
_BECAME = ("status", "success", "lsn", "epoch", "time")


class Record(NamedTuple):
    """One transaction as a copy holds it."""

    lsn: int
    epoch: int
    operation: Operation


class Records:
    """One pass over the transactions of a copy; `first_lsn` is that of the first record in it."""

    def __init__(self, copy: Copy) -> None:
        self.first_lsn: int | None = None
        self._blocks = Blocks(copy)
        self._unknown: list[str] = []

    def __iter__(self) -> Iterator[Record]:
        """Yield them in the order of the log."""
        for block in self._blocks:
            self.first_lsn = block.first_lsn if self.first_lsn is None else self.first_lsn
            try:
                operations = decode_operations(block.payload)
            except ValueError as error:
                self._unknown.append(f"the block from lsn {block.first_lsn:,} on holds no operations: {error}")
                continue
            for lsn, one in enumerate(operations, block.first_lsn):
                if one.kind not in _NO_TRANSACTIONS:
                    yield Record(lsn, block.epoch, one)

    @property
    def problems(self) -> list[str]:
        """What could not be read, in sentences; complete after the iteration."""
        return [*self._blocks.problems, *self._unknown]


def listed(data_dir: Path) -> Document:
    """Return all copies of both nodes, oldest first. Raises Refused if there is no cluster, DiskFault."""
    _check(data_dir)
    found = [_summary(node, copy) for node in NODES for copy in copies(data_dir / node / _QUARANTINE)]
    return {"schema": SCHEMA, "copies": sorted(found, key=lambda one: (one["at"] or "", one["name"]))}


def shown(data_dir: Path, name: str, exponent: int) -> Document:
    """Return one copy with every transaction in it; `name` is as listed, its node may be left out where it is clear.

    `asked` is the node that told what became of them, None when none runs. Raises Refused, DiskFault.
    """
    _check(data_dir)
    node, copy = _named(data_dir, name)
    records = Records(copy)
    with _ledger(data_dir) as ledger:
        transactions = [_transaction(record, exponent) | {"became": ledger.became(record)} for record in records]
        asked = ledger.node
    return {"schema": SCHEMA, **_about(node, copy, records, len(transactions)), "asked": asked} | {
        "transactions": transactions
    }


class _Ledger:
    """The ledger of a running node, or none. A node that stops answering is not asked again."""

    def __init__(self, node: str | None, stub: NodeControlStub | None) -> None:
        self.node = node
        self._stub = stub

    def became(self, record: Record) -> Document | None:
        """Return what the ledger says of a transaction, with status UNKNOWN for nothing; None without an answer."""
        if self._stub is None:
            return None
        try:
            reply = self._stub.FindTransaction(
                FindRequest(transaction_id=record.operation.transaction_id), timeout=_ANSWER_WITHIN_S
            )
        except grpc.RpcError:
            self._stub = None
            return None
        found = json.loads(reply.json or "null") or {"status": "UNKNOWN"}
        return {key: found.get(key) for key in _BECAME}


@contextlib.contextmanager
def _ledger(data_dir: Path) -> Iterator[_Ledger]:
    """The primary's ledger if it answers, else its partner's, else none."""
    with contextlib.ExitStack() as open_channels:
        for node in _primary_first(data_dir):
            socket = data_dir / node / NODE_SOCKET
            if not socket.exists() or socket_path_problem(socket):
                continue
            stub = NodeControlStub(open_channels.enter_context(open_blocking_channel(socket)))
            with contextlib.suppress(grpc.RpcError):  # a socket that a killed node left, or a node that recovers
                stub.FindTransaction(FindRequest(transaction_id=""), timeout=_ANSWER_WITHIN_S)
                yield _Ledger(node, stub)
                return
        yield _Ledger(None, None)


def _primary_first(data_dir: Path) -> tuple[str, ...]:
    try:
        primary = FileWitness(data_dir / CLUSTER_FILE).read().primary
    except Refused:  # what lies in quarantine is legible without it
        return NODES
    return primary, partner(primary)


def _check(data_dir: Path) -> None:
    if not any((data_dir / node).is_dir() for node in NODES):
        raise Refused(f"{data_dir} holds no cluster: `ftwallet-run up` makes one")


def _named(data_dir: Path, name: str) -> tuple[str, Copy]:
    found = [
        (node, copy)
        for node in NODES
        for copy in copies(data_dir / node / _QUARANTINE)
        if name in (copy.path.name, f"{node}/{copy.path.name}")
    ]
    if not found:
        raise Refused(f"no node has {name!r} in quarantine: `ftwallet-run quarantine list` shows what is there")
    if len(found) > 1:
        raise Refused(f"both nodes have {name!r} in quarantine: say a/{name} or b/{name}")
    return found[0]


def _summary(node: str, copy: Copy) -> Document:
    records = Records(copy)
    return _about(node, copy, records, sum(1 for _ in records))


def _about(node: str, copy: Copy, records: Records, transactions: int) -> Document:
    """Describe a copy whose records have been read."""
    from_lsn = records.first_lsn if copy.last_lsn_kept is None else copy.last_lsn_kept + 1
    return {
        "name": f"{node}/{copy.path.name}",
        "node": node,
        "at": None if copy.at is None else rfc3339(copy.at),
        "why": copy.why,
        "whole_log": copy.at is not None and copy.last_lsn_kept is None,
        "bytes": copy.size,
        "from_lsn": from_lsn,
        "transaction_count": transactions,
        "problems": records.problems,
    }


def _transaction(record: Record, exponent: int) -> Document:
    one = record.operation
    return {
        "transaction_id": one.transaction_id,
        "type": Kind(one.kind).name.lower(),
        **_what_was_asked(one, exponent),
        "lsn": record.lsn,
        "epoch": record.epoch,
    }


def _what_was_asked(one: Operation, exponent: int) -> Document:
    """The keys of its body as `GET /transactions/{id}` has them, but for amounts, which are strings."""
    kind, account_id, amount, extra = _body(one) or (None, None, None, b"")
    asked = Transaction(
        one.transaction_id, kind, account_id, amount, OutcomeCode.OK, None, 0, 0, 0, Status.PENDING, extra=extra
    )
    document = json.loads(transaction_body(asked, exponent), parse_float=str, parse_int=str)
    return {key: document[key] for key in _ASKED if key in document}


def _body(one: Operation) -> Body | None:
    """What a transaction asked, also one that was rolled back or imported; None where its record does not tell."""
    if one.kind == Kind.ROLLED_BACK:
        return rolled_back_body(one)
    if one.kind == Kind.IMPORTED_TRANSACTION:
        imported = imported_outcome(one)
        return Body(Kind(imported.kind), one.account_id, one.amount, imported.extra) if imported.kind else None
    return one.body
