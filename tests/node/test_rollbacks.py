"""What recovery cut, until it is on record again."""

from __future__ import annotations

from pathlib import Path

from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, operation
from ftwallet.ledger.rules import Rules, changed_rules
from ftwallet.ledger.state import MemoryState
from ftwallet.node.rollbacks import Rollbacks


async def test_rules_that_were_cut_do_not_come_back_over_the_configuration(tmp_path: Path) -> None:
    ledger = Ledger(Rules(), MemoryState())
    rollbacks = Rollbacks(tmp_path / "rollbacks.msgpack")
    await rollbacks.remember([changed_rules(Rules(max_amount=5), 1), operation(Kind.DEPOSIT, "t1", "u", 100, 1)])
    records = rollbacks.operations(ledger, 2)
    assert [(one.kind, one.transaction_id) for one in records] == [(Kind.ROLLED_BACK, "t1")]
    ledger.apply(1, 1, records)
    assert ledger.rules == Rules()


async def test_what_is_cut_again_after_a_crash_is_put_on_record_once(tmp_path: Path) -> None:
    ledger = Ledger(Rules(), MemoryState())
    rollbacks = Rollbacks(tmp_path / "rollbacks.msgpack")
    cut = [operation(Kind.DEPOSIT, "t1", "u", 100, 1), operation(Kind.DEPOSIT, "t2", "u", 100, 1)]
    await rollbacks.remember(cut)
    await rollbacks.remember(cut)
    assert [one.transaction_id for one in rollbacks.operations(ledger, 2)] == ["t1", "t2"]
