"""Directed worlds about the disk: the power fails right where a sync or a check that was left out would have mattered.

As in `moments.py`; each docstring tells what would be lost without the rule. A `Trap` waits for one operation of one
disk, and `Loss` says what goes with the power, so that nothing depends on a seed.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.scenarios.traps import Trap
from tests.simulation.disk import SECTOR, Loss
from tests.simulation.moments import moment
from tests.simulation.scene import Scene

LONG = "-" * 120
"""Makes ids long, and so a block of several transactions span more sectors than its first and last."""


def _begin(world: Scene) -> None:
    world.until_paired()
    world.deposit("ann", 100)
    world.run(0.5)  # until the commit is marked in both logs: what is written next is what the scene writes


def _trap(world: Scene, who: str, where: str, strike: Callable[[], None]) -> Trap:
    """`where` as in the scenarios' commands: `before fdatasync of journal`."""
    world.faults += 1
    trap = Trap(world.world, world.node(who), tuple(where.split()))
    trap.strike = strike
    return trap


def _dies(world: Scene, who: str, where: str, loss: Loss | None = None, *, least: int = 0) -> None:
    """With `loss` it loses power, and just that goes. `least`: bytes that a write must have."""
    node, power = world.node(who), loss is not None
    why = f"dies {where}"
    trap = _trap(world, who, where, lambda: world.world.kill(node, power=power, loss=loss or Loss.ANY, why=why))
    trap.least = least


def _sync_fails(world: Scene, who: str) -> None:
    """The next sync of the log; the kernel takes the pages for clean all the same."""
    disk = world.node(who).disk

    def fail_next() -> None:
        disk.fail_after = 0

    _trap(world, who, "before fdatasync of .journal", fail_next)


def _is_down(world: Scene, who: str) -> None:
    node = world.node(who)
    world.run_until(lambda: not node.alive, f"{who} has died")


def _returns(world: Scene, who: str) -> None:
    world.let_start(who)
    world.run_until(lambda: world.node(who).alive, f"{who} starts")


def _big_block(world: Scene, prefix: str, *, gives_up: bool = False) -> None:
    """Transactions that reach the primary while it is paused, so that all go into one block."""
    world.pause("primary")
    node = world.node("primary")
    there = len(node.requests)
    for number in range(6):
        world.deposit(f"ann{LONG}", 1, f"{prefix}{number}{LONG}", wait=False, gives_up=gives_up)
    world.run_until(lambda: len(node.requests) == there + 6, "all have come")
    world.resume("primary")
    world.run_until(lambda: not node.paused, "it goes on")


def _fill(world: Scene, count: int) -> None:
    calls = [world.deposit("ann", 1, wait=False) for _ in range(count)]
    world.run_until(lambda: all(call.answer is not None for call in calls), "the answers")


def _lose_the_backup(world: Scene) -> None:
    """Empty its directory when the log is so long that it is sent a checkpoint."""
    for _ in range(3):  # checkpoints are written once a second
        _fill(world, 30)
        world.run(2.0)
    world.fault("wipe", "backup")


# ---- Torn frames


@moment()
def power_fails_in_a_block(world: Scene) -> None:
    """Only the first and last sectors of a block have reached the disk: it was never synced, and is no damage."""
    _begin(world)
    backup = world.world.backup.name
    _dies(world, backup, "after write_all of .journal", Loss.MIDDLE, least=3 * SECTOR)
    _big_block(world, "t")
    _is_down(world, backup)
    world.heal()


@moment()
def shorter_block_comes_where_a_torn_one_was(world: Scene) -> None:
    """The end of the torn block is behind it, in the prepared space: a healthy node would take its log for damaged."""
    _begin(world)
    old = world.world.register.primary
    _dies(world, old, "after write_all of .journal", Loss.MIDDLE, least=3 * SECTOR)
    _big_block(world, "t", gives_up=True)
    _is_down(world, old)
    world.deposit("ann", 1)
    _returns(world, old)
    world.until_paired()
    world.kill(old)
    world.heal()


@moment()
def power_fails_in_the_block_after_a_cut(world: Scene) -> None:
    """What was cut is on the disk again, and the middle of the next block is not: two blocks in one place."""
    _begin(world)
    old = world.world.register.primary
    _dies(world, old, "after write_all of .journal", least=3 * SECTOR)
    _big_block(world, "t", gives_up=True)
    _is_down(world, old)
    world.keep_down(old)
    world.run(0.5)
    _big_block(world, "u")
    world.run(0.1)
    _dies(world, old, "after write_all of .journal", Loss.MIDDLE, least=3 * SECTOR)
    _returns(world, old)
    _is_down(world, old)
    world.heal()


@moment()
def power_fails_in_a_cut_of_two_segments(world: Scene) -> None:
    """The newer segment is there again, and the older one ends before it: a log with a hole."""
    _begin(world)
    old = world.world.register.primary
    _big_block(world, "s")
    world.run(0.5)

    def die_with_a_block_in_it() -> None:
        _dies(world, old, "after write_all of .journal", least=SECTOR)

    _trap(world, old, "after rename of .journal", die_with_a_block_in_it)
    world.fault("cut-one-way", old, 2.0)
    for prefix in "tu":
        _big_block(world, prefix, gives_up=True)
    _is_down(world, old)
    _dies(world, old, "after truncate of .journal", Loss.NAMES)
    _returns(world, old)
    _is_down(world, old)
    world.heal()


# ---- New files, new names


@moment()
def power_fails_when_a_segment_is_named(world: Scene) -> None:
    """The name is there, and the header, unsynced, is not: a healthy node would take its log for damaged."""
    _begin(world)
    backup = world.world.backup.name
    _dies(world, backup, "after rename of .journal", Loss.CONTENT)
    for prefix in "stuv":  # more than a segment holds
        _big_block(world, prefix)
    _is_down(world, backup)
    world.heal()


@moment()
def power_fails_and_a_name_is_lost(world: Scene) -> None:
    """The only node with all that was answered has an older identity: it looks like an old copy, and may not lead."""
    _begin(world)
    old, heir = world.world.register.primary, world.world.backup.name
    world.keep_down(old)
    world.kill(old)
    world.deposit("ann", 1)
    world.kill(heir, power=True, loss=Loss.NAMES)
    world.heal()


@moment()
def power_fails_and_the_identity_was_just_written(world: Scene) -> None:
    """The node's identity has its name and nothing in it: nobody can say which node the directory is."""
    _begin(world)
    world.kill("backup", power=True, loss=Loss.CONTENT)
    world.heal()


@moment()
def power_fails_and_the_record_was_just_written(world: Scene) -> None:
    """The cluster record has its name and nothing in it: nobody may lead any more."""
    _begin(world)
    world.faults += 1
    world.world.supervisor.die()
    world.world.record_disk.lose_power(Loss.CONTENT)
    world.heal()


# ---- Checkpoints


@moment()
def power_fails_after_two_checkpoints(world: Scene) -> None:
    """The log begins after a checkpoint, and both that are kept are empty files: nothing has the records before."""
    _begin(world)
    _lose_the_backup(world)
    world.run_until(lambda: world.world.coverage["backup: installing -> following"] > 0, "the state sync")
    world.until_paired()
    for _ in range(2):
        _fill(world, 30)
        world.run(2.0)
    world.kill("backup", power=True, loss=Loss.CONTENT)
    world.heal()


@moment()
def power_fails_when_a_state_sync_is_installed(world: Scene) -> None:
    """The log begins after the checkpoint that came, and of its slices nothing is there."""
    _begin(world)
    backup = world.world.backup.name

    def die_with_the_new_log() -> None:
        _dies(world, backup, "after rename of .journal", Loss.CONTENT)

    world.node(backup).at_state["installing"] = [die_with_the_new_log]
    _lose_the_backup(world)
    world.run_until(lambda: f"{backup:10} dies after" in "\n".join(world.trace), f"{backup} has died")
    world.heal()


@moment()
def a_bit_of_a_checkpoint_is_flipped(world: Scene) -> None:
    """An answered transaction has another id in it: a retry would be executed again."""
    _begin(world)
    _fill(world, 30)
    world.run(2.0)
    backup = world.world.backup
    world.kill(backup.name)
    assert backup.disk.flip("checkpoints/*.checkpoint", within=b"t20")
    world.faults += 1
    world.heal()


# ---- Files that a killed process, or a failed sync, has left


@moment()
def killed_before_a_sync(world: Scene) -> None:
    """What the killed backup wrote is seen after its start, and counts as held by it: never synced, it may still go."""
    _begin(world)
    _dies(world, "backup", "after write_all of .journal")
    world.deposit("ann", 1)
    world.until_paired()
    world.heal()


@moment()
def a_sync_fails(world: Scene) -> None:
    """The page cache shows a block that the disk never got, and a second sync says that all is well."""
    _begin(world)
    _sync_fails(world, "backup")
    world.deposit("ann", 1)
    world.until_paired()
    world.heal()


@moment()
def a_sync_fails_and_the_backup_leads(world: Scene) -> None:
    """Going on, it writes its own block over the one that failed: what that was longer is left behind it."""
    _begin(world)
    old, heir = world.world.register.primary, world.world.backup.name
    disk = world.node(heir).disk

    def fail_next() -> None:
        disk.fail_after = 0
        world.world.kill(world.node(old))

    def arm() -> None:
        _trap(world, heir, "before fdatasync of .journal", fail_next)

    _trap(world, heir, "after write_all of .journal", arm).least = 3 * SECTOR
    world.keep_down(old)
    _big_block(world, "t", gives_up=True)
    _is_down(world, old)
    world.run(2.0)
    world.let_start(old)
    world.deposit("ann", 1)
    world.kill(heir)
    world.heal()


# ---- What is cut


@moment()
def power_fails_after_a_cut(world: Scene) -> None:
    """What was cut is remembered in a file with nothing in it: nobody puts on record that it was rolled back."""
    _begin(world)
    old = world.world.register.primary
    world.kill(old, at="pending")
    world.deposit("ann", 1, gives_up=True, wait=False)
    _is_down(world, old)

    def lose_power() -> None:
        world.kill(old, power=True, loss=Loss.CONTENT)

    world.node(old).at_state["following"] = [lose_power]
    _returns(world, old)
    _is_down(world, old)
    world.heal()
