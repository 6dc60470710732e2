"""Whether a measured load was real: what was answered is held against both nodes' journals, money included.

Each journal is replayed from its first record into a ledger of its own, apart from the one that the node had in memory;
one that begins after a checkpoint (a state sync) from the oldest that is there.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.errors import BrokenInvariant, DiskFault, Refused
from ftwallet.journal import Journal
from ftwallet.journal.checkpoints import DamagedCheckpoint, list_files, load_file
from ftwallet.journal.identity import Identity
from ftwallet.lab.pair import BACKUP, PRIMARY, ROLES, Pair
from ftwallet.lab.scripts import AMOUNT_MINOR, TRANSFERRED_MINOR, WITHDRAWN_MINOR
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import accounts_of, decode_legs
from ftwallet.ledger.operations import Kind, Operation, decode_operations
from ftwallet.ledger.outcomes import OutcomeCode, Status
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import WORLD, MemoryState


class Replayed(NamedTuple):
    """One node's log: its transactions, what they brought in minor units, and what tells it from every other log."""

    deposits: int
    withdrawals: int
    transfers: int
    holds: int
    total: int
    lsn: int
    chain: bytes
    digest: bytes

    @property
    def transactions(self) -> int:
        """How many moved money, or set it aside."""
        return self.deposits + self.withdrawals + self.transfers + self.holds


class Proof(NamedTuple):
    """`problems` is empty when the load was real. `records`: transactions in the journals by role."""

    answered: int
    cut_off: int
    records: dict[str, int]
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not self.problems

    def sentence(self) -> str:
        """Say it to a person."""
        if self.problems:
            return "NOT VERIFIED: " + "; ".join(self.problems)
        records = self.records[ROLES[PRIMARY]]
        return (
            f"Verified: {self.answered:,} transactions were answered, {records:,} are in each of both journals "
            f"({records - self.answered:,} may have been under way when wrk hung up); "
            "logs, digests and balances agree, and all money adds up"
        )

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        return {
            "ok": self.ok,
            "answered": self.answered,
            "cut_off_at_most": self.cut_off,
            "records": self.records,
            "problems": self.problems,
        }


def prove(pair: Pair, *, stop: bool = True) -> Proof:
    """Wait until nothing is under way, end both nodes, and check. Raises Refused when they do not come to agree.

    They are stopped in order, or else killed, which spares the readable files of millions of transactions: what was
    answered is durable either way.
    """
    statuses = pair.agreed()
    (pair.stop if stop else pair.end_at_once)()
    problems: list[str] = []
    found: dict[str, Replayed] = {}
    for node, status in statuses.items():
        try:
            found[node] = _replayed(pair, node)
        except (BrokenInvariant, DiskFault, Refused, ValueError) as error:
            problems.append(f"{ROLES[node]}: {error}")
            continue
        problems += [f"{ROLES[node]}: {problem}" for problem in _beside_memory(found[node], status.digest)]
    if len(found) == len(ROLES):
        problems += _compared(found[PRIMARY], found[BACKUP])
        problems += counted(found[PRIMARY].transactions, pair.answered, pair.cut_off)
    if not pair.restarts and any(status.epoch != pair.first_epoch for status in statuses.values()):
        problems.append(
            "the primary has answered alone for a time, so not everything was durable on both at its answer"
        )
    records = {ROLES[node]: one.transactions for node, one in found.items()}
    return Proof(pair.answered, pair.cut_off, records, problems)


def counted(records: int, answered: int, cut_off: int) -> list[str]:
    """Hold the transactions in the log against those that were answered and those that wrk did not wait for."""
    if records < answered:
        return [f"{answered:,} transactions were answered, and only {records:,} are in the journals"]
    if records > answered + cut_off:
        asked = f"{answered:,} to {answered + cut_off:,}"
        return [f"{records:,} transactions are in the journals, and only {asked} were asked"]
    return []


def _replayed(pair: Pair, node: str) -> Replayed:
    node_dir = pair.config.node_dir(node)
    journal = Journal.open(node_dir / "journal", Identity.load(node_dir).cluster_id, read_only=True)
    with _no_collector():
        ledger = _beginning(node_dir / "checkpoints", journal)
        kinds = Counter[int | None](known.kind for known in ledger.transactions() if known.status is Status.COMMITTED)
        for block in journal.blocks(ledger.applied_lsn + 1):
            operations = decode_operations(block.payload)
            outcomes = ledger.apply(block.first_lsn, block.epoch, operations)
            if any(outcome.code != OutcomeCode.OK for outcome in outcomes):
                raise ValueError(f"not every operation from lsn {block.first_lsn} on was done")
            kinds.update(operation.kind for operation in operations)
            _look_at_transfers(operations)
    ledger.check()
    if ledger.duplicates:
        raise ValueError(f"{ledger.duplicates} ids were executed twice")
    total = -(ledger.balance(WORLD) or 0)
    holds = kinds[Kind.HOLD] + kinds[Kind.CAPTURE]
    moved = kinds[Kind.DEPOSIT], kinds[Kind.WITHDRAW], kinds[Kind.TRANSFER], holds, total
    return Replayed(*moved, journal.durable_lsn, journal.chain, ledger.digest)


def _look_at_transfers(operations: Sequence[Operation]) -> None:
    """Raise ValueError when one is not as a load asks it: so much from one account to another, which adds up to 0."""
    for operation in operations:
        if operation.kind == Kind.TRANSFER:
            legs = decode_legs(operation.extra)
            if [one.amount for one in legs] != [TRANSFERRED_MINOR] or len(accounts_of(legs)) != 2:
                raise ValueError(f"{operation.transaction_id} is a transfer that nobody asked for")


def _beginning(checkpoints: Path, journal: Journal) -> Ledger:
    """The ledger that the log begins after. Raises ValueError when there is none."""
    if journal.first_lsn == 1:
        return Ledger(Rules(), MemoryState())
    for path in list_files(checkpoints):
        with suppress(DamagedCheckpoint, OSError):
            meta, chunks = load_file(path)
            if journal.holds(meta.lsn, meta.chain):
                return Ledger.restore(chunks)
    raise ValueError(f"the log begins with lsn {journal.first_lsn}, and {checkpoints} holds no sound checkpoint of it")


def _beside_memory(replayed: Replayed, digest: bytes) -> list[str]:
    problems = []
    if replayed.digest != digest:
        problems.append("a replay of the journal gives another digest than the node had in memory")
    deposits, withdrawals, _, _, total, *_ = replayed
    if total != deposits * AMOUNT_MINOR - withdrawals * WITHDRAWN_MINOR:
        problems.append(f"{deposits:,} deposits and {withdrawals:,} withdrawals brought {total:,} minor units")
    return problems


def _compared(primary: Replayed, backup: Replayed) -> list[str]:
    pairs = zip(Replayed._fields, primary, backup, strict=True)
    return [f"the nodes differ in {name}" for name, one, other in pairs if one != other]


@contextmanager
def _no_collector() -> Iterator[None]:
    """Millions of new objects and no cycle among them: the collector would only look at them again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
