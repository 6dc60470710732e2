"""`python -m ftwallet.lab.preload DIRECTORY PAST ACCOUNTS PID [BLOCK]`: a data directory with a past, made in bulk.

The log, the checkpoint and the records of identity and witness are written by the code that a node writes them with, so
what is there afterwards is what a pair would have left after as many deposits and an orderly stop, in minutes instead
of hours. Both nodes hold the same log, so the second one's is a copy. With BLOCK only the first node's log is made, in
blocks of so many records: what a replay begins with.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ftwallet import platform
from ftwallet.errors import Refused
from ftwallet.journal import Journal
from ftwallet.journal.checkpoints import CheckpointMeta
from ftwallet.journal.frames import encode_block
from ftwallet.journal.identity import Identity
from ftwallet.lab.plan import progress
from ftwallet.lab.processes import PYTHON, environment
from ftwallet.lab.scripts import AMOUNT_MINOR
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation, encode_operations, operation
from ftwallet.node.base import StoreBase
from ftwallet.replication.register import Proposal, ProposalKind
from ftwallet.witness.bootstrap import CLUSTER_FILE, NODES, ensure_cluster
from ftwallet.witness.file import FileWitness

_BLOCK = 8_000
_SAY_EVERY = 1_000_000
_WRITE_EVERY = 500_000
_BOOT = 1


def preload(data_dir: Path, past: int, accounts: int) -> int:
    """Make it, in a process of its own, whose memory goes with it; returns `past`. Raises Refused."""
    progress(f"Writing a past of {past:,} deposits on {accounts:,} accounts")
    _made_apart(data_dir, past, accounts)
    return past


def preload_log(data_dir: Path, records: int, accounts: int, block: int) -> Path:
    """Make a node's log alone, in a process of its own; returns the node's directory. Raises Refused."""
    progress(f"Writing a log of {records:,} deposits in blocks of {block:,}")
    _made_apart(data_dir, records, accounts, block)
    return data_dir / NODES[0]


def _made_apart(data_dir: Path, *numbers: int) -> None:
    past, accounts, *block = numbers
    command = [PYTHON, "-P", "-m", "ftwallet.lab.preload", str(data_dir)]
    command += map(str, (past, accounts, os.getpid(), *block))
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment(), check=False)
    if ended.returncode != 0:
        raise Refused(f"the past could not be written (exit code {ended.returncode})")


def make(data_dir: Path, past: int, accounts: int) -> None:
    """Make a new cluster in which node `a` has led for an epoch, took `past` deposits, and has stopped."""
    epoch = _led_once(data_dir)
    first, *others = (data_dir / node for node in NODES)
    journal = Journal.open(first / "journal", Identity.load(first).cluster_id)
    base = StoreBase(first, accounts)
    ledger = base.open(journal)
    for operations in _blocks(past, accounts, _BLOCK):
        _append(journal, epoch, operations)
        ledger.apply(ledger.applied_lsn + 1, epoch, operations)
        if journal.durable_lsn % _WRITE_EVERY < len(operations):
            _write(base, journal, ledger)
    journal.append_mark(journal.durable_lsn)
    _write(base, journal, ledger)
    base.close()
    journal.close()
    for other in others:
        for name in ("journal", "store"):
            shutil.copytree(first / name, other / name, dirs_exist_ok=True)
    os.sync()  # or the kernel would write it all while the pair is measured


def make_log(data_dir: Path, records: int, accounts: int, block: int) -> None:
    """Make a new cluster in which node `a` has a log of `records` deposits, and neither checkpoint nor store."""
    epoch = _led_once(data_dir)
    node_dir = data_dir / NODES[0]
    journal = Journal.open(node_dir / "journal", Identity.load(node_dir).cluster_id)
    for operations in _blocks(records, accounts, block):
        _append(journal, epoch, operations)
    journal.append_mark(journal.durable_lsn)
    journal.close()


def _led_once(data_dir: Path) -> int:
    """Have both nodes started once, as witness and identities record it; returns the epoch."""
    register = ensure_cluster(data_dir)
    witness = FileWitness(data_dir / CLUSTER_FILE)
    for node in NODES:
        identity = Identity.load(data_dir / node)
        identity.record_boot(_BOOT)
        kind = ProposalKind.START if node == register.primary else ProposalKind.BOOT
        decision = witness.propose(Proposal(kind, node, identity.incarnation, register.epoch, boot=_BOOT))
        if not decision.granted:
            raise Refused(f"the witness refused node {node}: {decision.reason}")
        register = decision.register
    for node in NODES:
        Identity.load(data_dir / node).record_epoch(register.epoch)
    return register.epoch


def _blocks(past: int, accounts: int, block: int) -> Iterator[list[Operation]]:
    draw = random.Random(0)
    time_us = int(time.time() * 1e6)
    for first in range(0, past, block):
        numbers = range(first, min(first + block, past))
        yield [_deposit(draw, f"account-{number % accounts}", time_us) for number in numbers]
        if first // _SAY_EVERY != (first + block) // _SAY_EVERY:
            progress(f"{numbers.stop:,} are written")


def _deposit(draw: random.Random, account_id: str, time_us: int) -> Operation:
    """Under an id like those that clients draw: as long as a UUID, and in no order."""
    drawn = f"{draw.getrandbits(128):032x}"
    transaction_id = f"{drawn[:8]}-{drawn[8:12]}-{drawn[12:16]}-{drawn[16:20]}-{drawn[20:]}"
    return operation(Kind.DEPOSIT, transaction_id, account_id, AMOUNT_MINOR, time_us)


def _append(journal: Journal, epoch: int, operations: list[Operation]) -> None:
    lsn = journal.durable_lsn
    journal.append(encode_block(epoch, lsn + 1, len(operations), lsn, journal.chain, encode_operations(operations)))


def _write(base: StoreBase, journal: Journal, ledger: Ledger) -> None:
    snapshot = base.snapshot(ledger)
    snapshot.write(CheckpointMeta(ledger.applied_lsn, journal.epoch, journal.chain, ledger.digest, journal.history))
    snapshot.written()


def main() -> None:
    """Make what the command line says, or end with the parent PID."""
    past, accounts, parent_pid, *block = map(int, sys.argv[2:])
    platform.die_with_parent(parent_pid)
    gc.disable()  # millions of objects, and no cycle among them
    try:
        if block:
            make_log(Path(sys.argv[1]), past, accounts, *block)
        else:
            make(Path(sys.argv[1]), past, accounts)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
