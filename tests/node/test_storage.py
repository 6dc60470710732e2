from pathlib import Path

from ftwallet.journal import Journal, encode_block
from ftwallet.journal.identity import Identity
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, encode_operations, operation
from ftwallet.ledger.state import MemoryState
from ftwallet.node.base import DEFAULT_RULES, FileBase
from ftwallet.node.storage import Storage, replay
from ftwallet.node.tail import Tail


def test_T1_times_go_on_from_the_newest_of_the_log(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path / "a", "cluster", "a")
    journal = Journal.open(tmp_path / "a" / "journal", "cluster")
    base = FileBase(tmp_path / "a")
    ledger = Ledger(DEFAULT_RULES, MemoryState())
    assert Storage(identity, journal, ledger, Tail([]), 0, base).newest_time_us() == 0
    for lsn, times in ((1, [5, 7]), (3, [9, 8])):
        operations = [operation(Kind.DEPOSIT, f"t{lsn}-{time}", "x", 1, time) for time in times]
        journal.append(encode_block(1, lsn, 2, 0, journal.chain, encode_operations(operations)))
    storage = Storage(identity, journal, ledger, Tail(list(journal.blocks(1))), 0, base)
    assert storage.newest_time_us() == 9
    replay(ledger, journal, base)
    assert storage.newest_time_us() == 9
    journal.close()
