"""The invariants: at the end of a world, from the logs and from what the clients were told."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftwallet.errors import BrokenInvariant
from ftwallet.journal.checkpoints import DamagedCheckpoint, list_files, load_file
from ftwallet.ledger.holds import EXPIRIES, expiry_of
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import MOVEMENTS, decode_operations
from ftwallet.ledger.outcomes import Status, Transaction
from ftwallet.ledger.state import MemoryState
from ftwallet.node.base import DEFAULT_RULES
from tests.simulation import model
from tests.simulation.clients import said

if TYPE_CHECKING:
    from ftwallet.journal import Journal
    from ftwallet.node.backup import BackupNode
    from ftwallet.node.primary import PrimaryNode
    from tests.simulation.clients import Call, History
    from tests.simulation.world import World


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
    try:
        ledger.check()  # all balances add up to zero, none is negative that must not be
    except BrokenInvariant as error:
        world.fail(f"zero: node {name}: {error}")
    for call in history.calls.values():
        found, told = ledger.find(call.transaction_id), call.answer
        if told is None:
            if call.refused and found is not None and found.status is Status.COMMITTED:
                world.fail(f"refused: {call.transaction_id} was refused for good, and is at lsn {found.lsn} on {name}")
            continue
        if found is None or found.status is not Status.COMMITTED:
            world.fail(f"durable: {call.transaction_id} was answered and is not on node {name}")
        elif said(found) != said(told):
            world.fail(f"one answer: {call.transaction_id} was told {told}, and node {name} has {found}")
    check_groups(world, name, ledger, history)
    for transaction_id in _not_on_record(world, ledger):
        world.fail(f"rolled back: {transaction_id} was cut from a log, and node {name} knows nothing of it")
    if lost := [raw for raw in world.cut_frames[name] if not world.nodes[name].disk.keeps_copy(raw)]:
        world.fail(f"copy: node {name} has cut {len(lost)} blocks that are not in its quarantine any more")
    check_log(world, name, node, history)
    check_checkpoints(world, name, node)


def open_expiries(world: World) -> list[str]:
    """Holds that are to expire and are still open, of which a primary that serves must put the end on record."""
    node = world.primary.node
    return [] if node is None else [expiry_of(key)[1] for key, _ in node.ledger.state.export_records(EXPIRIES)]


def check_groups(world: World, name: str, ledger: Ledger, history: History) -> None:
    """Each stands in the log whole and in one piece, all done or all refused, or not at all."""
    for group in history.groups:
        found = [ledger.find(call.transaction_id) for call in group.calls]
        settled = [one for one in found if one is not None and one.status is Status.COMMITTED]
        if not settled:
            continue
        ids = ", ".join(call.transaction_id for call in group.calls)
        if len(settled) < len(found):
            world.fail(f"all or nothing: node {name} has a part of the batch {ids}")
        if len({one.success for one in settled}) > 1:
            world.fail(f"all or nothing: node {name} has done a part of the batch {ids}")
        if [one.lsn for one in settled] != list(range(settled[0].lsn, settled[0].lsn + len(settled))):
            world.fail(f"all or nothing: the batch {ids} is not in one piece on node {name}")


def all_cut_is_on_record(world: World) -> bool:
    """Whether both nodes know of every transaction that either has cut from its log."""
    running = [node.node for node in world.nodes.values()]
    return not any(node is None or _not_on_record(world, node.ledger) for node in running)


def _not_on_record(world: World, ledger: Ledger) -> list[str]:
    cut = set().union(*world.cut_ids.values())
    return sorted(transaction_id for transaction_id in cut if ledger.find(transaction_id) is None)


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
        if _contents(replayed) != _contents(node.ledger):
            world.fail(f"replay: node {name} at lsn {node.ledger.applied_lsn} is not what its log says")


def check_checkpoints(world: World, name: str, node: PrimaryNode | BackupNode) -> None:
    """A log may begin after each of them, so each ends its history where it stands, and leads to what the node has."""
    for path in list_files(node._disk.journal.directory.parent / "checkpoints"):
        with contextlib.suppress(DamagedCheckpoint):  # bits were flipped in some
            meta, _ = load_file(path)
            if [tuple(end) for end in meta.history[-1:]] != [(meta.epoch, meta.lsn)]:
                world.fail(f"log: node {name} has a checkpoint at lsn {meta.lsn} with the history {meta.history}")


def _leads_on(journal: Journal, ledger: Ledger, whole: Ledger) -> bool:
    """Whether the blocks after this ledger bring it to what the other is."""
    for block in journal.blocks(ledger.applied_lsn + 1):
        ledger.apply(block.first_lsn, block.epoch, decode_operations(block.payload))
    return _contents(ledger) == _contents(whole)


def _contents(ledger: Ledger) -> tuple[object, ...]:
    state = ledger.state
    return ledger.applied_lsn, ledger.digest, dict(state.export_accounts()), list(state.export_records())


def check_balances(world: World, history: History) -> None:
    """All that was done, refused, answered and read is what a naive wallet makes of it; nobody was left waiting."""
    primary = world.primary.node
    assert primary is not None
    for call in history.calls.values():
        if call.answer is None and not call.given_up:
            world.fail(f"answer: {call.transaction_id} was never answered, also when all was well again")
            return
    settled = list(_settled(history, primary.ledger))
    after, differences, still_open = model.executed(settled, world.expiries)
    for difference in differences:
        world.fail(f"outcome: {difference}")
    if still_open or open_expiries(world):
        world.fail(f"expiry: {still_open} have not expired in time, the primary knows of {open_expiries(world)}")
    for account, lsn, balance in history.balances:
        _hold_balance(world, after, "a read was told", account, lsn, balance)
    for account in after:
        _hold_balance(
            world, after, "the ledger has", account, primary.ledger.applied_lsn, primary.ledger.balance(account)
        )
    held = dict(primary.ledger.export_accounts())
    if strangers := held.keys() - after.keys():
        world.fail(f"balance: the ledger has accounts that nothing was brought to: {sorted(strangers)}")


def _settled(history: History, ledger: Ledger) -> Iterator[tuple[Transaction, Call]]:
    for call in history.calls.values():
        done = call.answer
        if done is None or not done.time_us:  # in doubt, or told in a batch, which tells no times
            done = ledger.find(call.transaction_id)
        if done is not None and done.status is Status.COMMITTED:
            yield done, call


def _hold_balance(world: World, after: model.Balances, who: str, account: str, lsn: int, told: int | None) -> None:
    steps = after.get(account, [])
    place = bisect_right(steps, lsn, key=lambda step: step[0])
    expected = steps[place - 1][1] if place else 0
    if (told or 0) != expected:
        world.fail(
            f"balance: {who} that {account} has {told} at lsn {lsn}, and what was moved until then is {expected}"
        )
