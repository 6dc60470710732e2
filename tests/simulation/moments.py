"""Directed worlds for `breaks/`: each sets up the one moment that a rule is about, and passes when nothing is broken.

Random worlds come to such a moment too seldom, because several things must go wrong in one order. Each docstring tells
the counter-example: how money would be lost without the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ftwallet.node.primary import PrimaryNode
from ftwallet.replication.states import BackupState, PrimaryState
from tests.scenarios import runner as scenarios
from tests.simulation.loop import Stuck
from tests.simulation.scene import Scene, scene


class Told(NamedTuple):
    """`violation` is None when all held; `faults` are those that the world was given."""

    violation: str | None
    steps: int
    faults: int


class Moment(NamedTuple):
    """A world that is played by `play`, the same every time."""

    name: str
    play: Callable[[], Told]


def moment(on_primary_death: str = "promote", seed: int = 0) -> Callable[[Callable[[Scene], None]], Moment]:
    """Have a scene played in a world of its own. Its assertions count like the checker's, whose words come first."""

    def made(tell: Callable[[Scene], None]) -> Moment:
        def play() -> Told:
            with scene(seed, on_primary_death=on_primary_death) as world:
                violation: str | None = None
                try:
                    tell(world)
                except (AssertionError, Stuck) as error:
                    violation = str(world.world.violation or f"scene: {error!r}".splitlines()[-1])
                return Told(violation, world.world.loop.steps, world.faults)

        return Moment(tell.__name__, play)

    return made


def scenario(name: str) -> Moment:
    """A text of tests/scenarios: what invariants it breaks, whatever its trace comes to."""
    path = scenarios.DIRECTORY / f"{name}.txt"

    def play() -> Told:
        seen = scenarios.play(path.read_text(encoding="utf-8"))
        return Told(seen.violation, seen.steps, seen.faults)

    return Moment(name, play)


# ---- Messages of an older epoch


@moment(on_primary_death="restart")
def old_message_comes_after_the_tail_is_settled(world: Scene) -> None:
    """A sends x and loses power; it restarts, B lacks x, so x is rolled back. Then B gets the old message and has x."""
    old_message_comes(world, BackupState.FOLLOWING)


@moment(on_primary_death="restart")
def old_message_comes_while_the_tail_is_settled(world: Scene) -> None:
    """The same, and it comes when B has told A its log without x, and A has not told B yet where both are the same."""
    old_message_comes(world, BackupState.GREETED)


def old_message_comes(world: Scene, state: BackupState) -> None:
    """A message of an epoch that is over comes when the backup is in this state of its next session."""
    began(world)
    late = world.hold_back()
    world.deposit("ann", 50, "x", wait=False, gives_up=True)
    world.run_until(lambda: late.holds, "x is on its way")
    world.at_state("backup", state, late.let_through)
    world.kill("primary", power=True)
    world.run_until(lambda: not late.holds, "x arrives")
    world.run(0.5)
    world.heal()


# ---- Answering alone


@moment()
def record_is_durable_while_the_witness_is_asked(world: Scene) -> None:
    """A writes x, loses B, and asks to go alone. x is durable here before the witness, who is silent, has said yes.

    Answered now, x would be lost with A: the register still has B in sync, which lacks it.
    """
    began(world)
    world.fault("stalled-disk", "primary", 1.0)
    call = world.deposit("ann", 50, wait=False)
    world.run(0.1)
    world.fault("witness-silent", number=3.0)
    world.keep_down("backup")
    world.kill("backup")
    world.run(2.0)
    assert call.answer is None
    world.heal()


@moment()
def backup_is_slow_to_catch_up(world: Scene) -> None:
    """A has answered x alone and sent it to B, whose disk is slow: in the set before its ack, B might lead without."""
    began(world)
    world.kill("backup")
    world.deposit("ann", 50)
    world.at_state("backup", BackupState.FOLLOWING, lambda: world.fault("slow-disk", "backup", 3.0))
    world.at_state("backup", BackupState.FOLLOWING, lambda: several(world, "bob"))
    world.until_paired()
    world.heal()


@moment()
def transactions_come_while_the_join_is_asked(world: Scene) -> None:
    """A has asked that B joins, and writes x: answered alone now, it is not on B, which is in the set soon after."""
    began(world)
    world.kill("backup")
    world.deposit("ann", 50)
    world.at_state("primary", PrimaryState.JOINING, lambda: world.fault("stalled-disk", "backup", 0.3))
    world.at_state("primary", PrimaryState.JOINING, lambda: several(world, "bob"))
    world.until_paired()
    world.heal()


@moment()
def backup_that_joins_is_another_directory_than_before(world: Scene) -> None:
    """B joins, dies, and is emptied; the new B catches up and joins. Under the old B's name it would not count.

    The witness would have in sync what is no more: a directory that nobody can promote, and nobody has joined.
    """
    began(world)
    world.kill("backup")
    world.deposit("ann", 1)
    world.until_paired()
    world.empty("backup")
    world.run_until(lambda: world.mode == "solo", "A is alone")
    world.at_state("primary", PrimaryState.JOINING, lambda: several(world, "bob"))
    world.run_until(lambda: world.world.coverage["primary: closing-in -> joining"] == 2, "the join is asked for")
    world.run(0.2)
    world.heal()


# ---- Reads


@moment()
def account_is_read_while_its_deposit_is_not_on_the_backup(world: Scene) -> None:
    """A has x on its disk, B has not. A reader who is shown x sees money that is gone when A dies now."""
    began(world)
    world.fault("stalled-disk", "backup", 1.0)
    world.deposit("ann", 50, wait=False)
    world.run(0.1)
    world.read("ann")
    world.run(0.5)
    world.heal()


# ---- The tail


@moment(on_primary_death="restart")
def primary_starts_again_and_its_backup_is_cut_off(world: Scene) -> None:
    """A answers x and dies before the mark. It waits in vain for B, which has x: rolled back, x would be lost."""
    began(world)
    world.kill("primary", at="replied")
    world.deposit("ann", 50)
    world.run_until(lambda: not world.node("a").alive, "it dies")
    world.fault("cut", "a", 20.0)
    world.run_until(lambda: world.node("a").is_up, "it is up")
    world.run(5.0)
    world.heal()


@moment(on_primary_death="restart")
def primary_rolls_back_and_nobody_asks_again(world: Scene) -> None:
    """A writes x and dies before it sends it; B lacks x, so A cuts it. The log must say what became of x."""
    began(world)
    world.kill("primary", at="pending")
    world.deposit("ann", 50, "x", wait=False, gives_up=True)
    world.run_until(lambda: not world.world.primary.alive, "it dies")
    world.until_paired()
    world.heal()


@moment()
def old_primary_cuts_and_nobody_asks_again(world: Scene) -> None:
    """A writes x and dies before it sends it; B leads without x. A follows and cuts x: B must put that on record."""
    began(world)
    world.kill("primary", at="pending")
    world.deposit("ann", 50, "x", wait=False, gives_up=True)
    world.run_until(lambda: not world.node("a").alive, "it dies")
    world.until_paired()
    world.heal()


@moment()
def old_primary_dies_between_its_cut_and_the_report(world: Scene) -> None:
    """A writes x and dies; B leads without x. A cuts x and dies again: nobody but its disk knows that x was asked."""
    began(world)
    world.kill("primary", at="pending")
    world.deposit("ann", 50, "x", wait=False, gives_up=True)
    world.run_until(lambda: not world.node("a").alive, "it dies")
    world.at_state("a", BackupState.FOLLOWING, lambda: world.kill("a", power=True))
    world.run_until(lambda: any("a" in line and "loses power" in line for line in world.trace), "it dies again")
    world.until_paired()
    world.heal()


@moment(on_primary_death="restart")
def rolled_back_transaction_is_asked_again(world: Scene) -> None:
    """A writes x and dies before it sends it, and rolls x back. Its client asks again: now it must be executed."""
    began(world)
    world.kill("primary", at="pending")
    world.deposit("ann", 50, "x", wait=False, gives_up=True)
    world.run_until(lambda: not world.world.primary.alive, "it dies")
    world.until_paired()
    call = world.deposit("ann", 50, "x")
    assert call.answer is not None
    assert call.answer.new_balance == 150
    world.heal()


@moment(on_primary_death="restart")
def rolled_back_transaction_is_asked_again_at_once(world: Scene) -> None:
    """The same, and the client asks while the tail is settled: B lacks x, so A alone must not answer it."""
    began(world)
    world.kill("primary", at="pending")
    call = world.deposit("ann", 50, wait=False)
    world.run_until(lambda: not world.world.primary.alive, "it dies")
    world.at_state("a", PrimaryState.SETTLING, lambda: world.fault("cut", "a", 2.0))
    world.run_until(lambda: call.answer is not None, "the answer")
    world.heal()


# ---- State sync


@moment()
def log_that_begins_after_a_checkpoint_leads(world: Scene) -> None:
    """B's log begins after the checkpoint that it got, and B leads; A is emptied: blocks alone cannot bring it back."""
    began(world)
    lag(world, "b")
    world.until_paired()
    world.fault("wipe", "a")
    world.run_until(lambda: world.world.register.primary == "b", "the promotion")
    world.heal()


@moment()
def backup_is_slow_to_install_a_checkpoint(world: Scene) -> None:
    """B has come to all of A's log by a checkpoint: acked before it is installed, B is let in with nothing."""
    began(world)
    lag(world, "b")
    world.at_state("b", BackupState.RECEIVING, lambda: world.fault("slow-disk", "b", 5.0))
    world.until_paired()
    world.heal()


@moment()
def session_breaks_while_a_checkpoint_is_installed(world: Scene) -> None:
    """B installs a checkpoint and its session ends: the log on its disk changes, and B must know of it afterwards."""
    began(world)
    lag(world, "b")
    world.at_state("b", BackupState.INSTALLING, lambda: world.fault("break"))
    world.run(3.0)
    world.heal()


# ---- What they have in common


def began(world: Scene) -> None:
    """A leads, B is in sync, and both know all that was answered."""
    world.until_paired()
    world.deposit("ann", 100)
    world.run(0.5)


def several(world: Scene, account: str) -> None:
    """More transactions than one block takes, so that they are answered one after the other."""
    for _ in range(20):
        world.deposit(account, 1, wait=False)


def lag(world: Scene, name: str) -> None:
    """Have a backup miss so much that it must sync its state when it comes, from a checkpoint of all that there is."""
    world.keep_down(name)
    world.kill(name)
    for number in range(200):
        world.deposit("bob", 1)
        primary = world.world.primary.node
        assert isinstance(primary, PrimaryNode)
        if number > 100 and primary._checkpointer.last_lsn == primary.ledger.applied_lsn:
            break
    world.run(2.0)
    world.let_start(name)
