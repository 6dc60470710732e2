"""Whether a cluster that was broken kept what it answered: nothing lost, nothing done twice, all money there."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.client import Rejected, Unreachable, WalletClient
from ftwallet.errors import BrokenInvariant, DiskFault, Refused
from ftwallet.journal.identity import Identity
from ftwallet.journal.reader import blocks
from ftwallet.journal.recovery import Log, look
from ftwallet.lab.attempts import Attempts, account_id, transaction_id
from ftwallet.lab.cluster import Cluster
from ftwallet.lab.processes import HOST
from ftwallet.lab.scripts import AMOUNT_MINOR
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import MOVEMENTS, decode_operations
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState
from ftwallet.supervisor.verify import verify
from ftwallet.witness.bootstrap import NODES


class Kept(NamedTuple):
    """`answered`: deposits answered with 200; `lost` of them are not in the journal. `doubled`: ids done twice."""

    answered: int
    lost: int
    doubled: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not (self.lost or self.doubled or self.problems)

    def sentence(self) -> str:
        """Say it to a person."""
        if not self.ok:
            counts = f"{self.lost:,} of {self.answered:,} answered deposits are lost, {self.doubled:,} were done twice"
            return "NOT VERIFIED: " + "; ".join([counts, *self.problems])
        return (
            f"Verified: all {self.answered:,} answered deposits are in the journal, each once; balances are their "
            "sums, and both nodes agree"
        )

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        return {"ok": self.ok, **self._asdict()}


def kept(cluster: Cluster, attempts: Attempts) -> Kept:
    """Look at balances, stop the cluster in order, and look at both journals. Raises Refused if it does not stop."""
    answered = attempts.answered()
    ids = {transaction_id(connection, number) for connection, numbers in answered.items() for number in numbers}
    unanswered = len(attempts.asked() - ids)
    problems = [f"{unanswered:,} deposits were never answered"] if unanswered else []
    problems += list(_balances(cluster, answered))
    cluster.stop()
    report = verify(cluster.config.data_dir)
    problems += [f"verify: {difference}" for difference in report["differences"]]
    try:
        done = _done(cluster.config.data_dir, cluster.past)
    except (BrokenInvariant, DiskFault, Refused, ValueError) as error:
        return Kept(len(ids), 0, 0, [*problems, f"no journal could be replayed: {error}"])
    if strangers := done.keys() - attempts.asked():
        problems.append(f"{len(strangers):,} transactions were done that nobody asked for")
    doubled = sum(count > 1 for count in done.values())
    return Kept(len(ids), len(ids - done.keys()), doubled, problems)


def _balances(cluster: Cluster, answered: dict[int, set[int]]) -> list[str]:
    problems = []
    with WalletClient(f"http://{HOST}:{cluster.config.http_port}") as wallet:
        for connection, numbers in answered.items():
            account, expected = account_id(connection), Decimal(AMOUNT_MINOR * len(numbers)) / 100
            try:
                balance = wallet.balance(account).balance
            except (Rejected, Unreachable) as error:
                problems.append(f"the balance of {account} cannot be read: {error}")
                continue
            if balance != expected:
                problems.append(f"{account} has a balance of {balance}, and {expected} was answered")
    return problems


def _done(data_dir: Path, past: int) -> Counter[str]:
    """Replay the longest log, and return how often each transaction after its first `past` records was done.

    Raises Refused, DiskFault, ValueError.
    """
    log = min((_log(data_dir / node) for node in NODES), key=lambda log: log.first_lsn)
    ledger = Ledger(Rules(), MemoryState())
    done: Counter[str] = Counter()
    for block in blocks(log, 1):
        operations = decode_operations(block.payload)
        outcomes = ledger.apply(block.first_lsn, block.epoch, operations)
        if block.last_lsn <= past:
            continue
        done.update(
            operation.transaction_id
            for operation, outcome in zip(operations, outcomes, strict=True)
            if operation.kind in MOVEMENTS and outcome.code == OutcomeCode.OK
        )
    ledger.check()
    return done


def _log(node_dir: Path) -> Log:
    return look(node_dir / "journal", Identity.load(node_dir).cluster_id)
