"""The invariants at the end of a world, from the logs that the nodes have and what the clients were told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, decode_operations
from ftwallet.ledger.outcomes import OutcomeCode, Status
from ftwallet.ledger.state import MemoryState
from ftwallet.node.storage import DEFAULT_RULES

if TYPE_CHECKING:
    from ftwallet.node.backup import BackupNode
    from ftwallet.node.primary import PrimaryNode
    from tests.simulation.clients import History
    from tests.simulation.world import World

MOVEMENTS = (Kind.DEPOSIT, Kind.WITHDRAW)


def check(world: World, history: History) -> None:
    """Record the first invariant that does not hold as the world's violation."""
    for node in world.nodes.values():
        running = node.node
        if running is None:
            world.fail(f"converge: node {node.name} does not run")
            return
        check_node(world, node.name, running, history)
    check_balances(world, history)


def check_node(world: World, name: str, node: PrimaryNode | BackupNode, history: History) -> None:
    ledger = node.ledger
    ledger.check()  # all balances add up to zero, none is negative that must not be
    for call in history.calls.values():
        found, told = ledger.find(call.transaction_id), call.answer
        if told is None:
            continue
        if found is None or found.status is not Status.COMMITTED:
            world.fail(f"durable: {call.transaction_id} was answered and is not on node {name}")
        elif (found.lsn, found.code, found.new_balance) != (told.lsn, told.code, told.new_balance):
            world.fail(f"one answer: {call.transaction_id} was told {told}, and node {name} has {found}")
    check_log(world, name, node, history)


def check_log(world: World, name: str, node: PrimaryNode | BackupNode, history: History) -> None:
    """State equals replay, each id is executed once, epochs never go back."""
    journal = node._disk.journal
    blocks = list(journal.blocks(journal.first_lsn))
    executed: dict[str, int] = {}
    epoch, expected = 0, blocks[0].first_lsn if blocks else 1
    for block in blocks:
        if block.epoch < epoch or block.first_lsn != expected:
            world.fail(f"log: node {name} has a block of epoch {block.epoch} at lsn {block.first_lsn} after {epoch}")
        epoch, expected = block.epoch, block.last_lsn + 1
        for lsn, one in enumerate(decode_operations(block.payload), block.first_lsn):
            if one.kind not in MOVEMENTS:
                continue
            if one.transaction_id in executed:
                world.fail(f"exactly once: {one.transaction_id} stands at lsn {executed[one.transaction_id]} and {lsn}")
            executed[one.transaction_id] = lsn
    if blocks and blocks[0].first_lsn == 1:
        replayed = Ledger(DEFAULT_RULES, MemoryState())
        for block in blocks:
            replayed.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
        if (replayed.applied_lsn, replayed.digest) != (node.ledger.applied_lsn, node.ledger.digest):
            world.fail(f"replay: node {name} at lsn {node.ledger.applied_lsn} is not what its log says")


def check_balances(world: World, history: History) -> None:
    """Balances are the sums of what was answered; nothing else had moved money, and every client has its answer."""
    balances: dict[str, int] = {}
    for call in history.calls.values():
        if call.answer is None:
            world.fail(f"answer: {call.transaction_id} was never answered, also when all was well again")
            return
    for call in sorted(history.calls.values(), key=lambda call: call.answer.lsn if call.answer else 0):
        assert call.answer is not None
        sign = 1 if call.kind is Kind.DEPOSIT else -1
        if call.answer.code == OutcomeCode.OK:
            balances[call.account] = balances.get(call.account, 0) + sign * call.amount
            if call.answer.new_balance != balances[call.account]:
                world.fail(
                    f"balance: {call.transaction_id} was told {call.answer.new_balance}, and the answers before it "
                    f"make {balances[call.account]}"
                )
    primary = world.primary.node
    assert primary is not None
    for account, balance in balances.items():
        if primary.ledger.balance(account) != balance:
            world.fail(f"balance: {account} has {primary.ledger.balance(account)}, and the answers make {balance}")
