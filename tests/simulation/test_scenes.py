"""Rows of FAULTS told on purpose, in the simulated world: each with the moment and the order that it is about."""

from __future__ import annotations

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES
from ftwallet.ledger.legs import decode_legs
from ftwallet.ledger.operations import Kind
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction
from tests.simulation.clients import Call
from tests.simulation.scene import Scene, scene


def begin(world: Scene) -> None:
    world.until_paired()
    world.deposit("ann", 100)


def leader_and_starts(world: Scene) -> tuple[str, dict[str, int]]:
    """Nobody was taken for dead as long as these are the same."""
    register = world.world.register
    return register.primary, dict(register.boots)


def unanswered_for(world: Scene, seconds: float) -> Call:
    """A deposit that nobody may answer for so long."""
    call = world.deposit("ann", 7, wait=False)
    world.run(seconds)
    assert call.answer is None
    return call


@pytest.mark.parametrize("policy", ["promote", "restart"])
@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_primary_dies_at_each_stage(stage: str, policy: str) -> None:
    with scene(on_primary_death=policy) as world:
        begin(world)
        was = world.world.register.primary
        world.kill("primary", at=stage)
        call = world.deposit("ann", 50)
        assert call.answer is not None
        assert call.answer.new_balance == 150
        world.until_paired()
        assert (world.world.register.primary != was) == (policy == "promote")
        world.heal()


BATCH = [(Kind.DEPOSIT, "ann", 5), (Kind.WITHDRAW, "ann", 20), (Kind.DEPOSIT, "bob", 7)] * 4


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("policy", ["promote", "restart"])
@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_primary_dies_at_each_stage_in_the_middle_of_a_batch(
    stage: str, policy: str, all_or_nothing: bool
) -> None:
    with scene(on_primary_death=policy) as world:
        begin(world)
        world.kill("primary", at=stage, after=8)
        calls = world.batch(*BATCH, all_or_nothing=all_or_nothing)
        assert all(call.tries > 1 for call in calls) or stage == "replied"
        assert [call.answer.new_balance for call in calls if call.answer] == BALANCES
        world.heal()


BALANCES = [balance for times in range(1, 5) for balance in (120 - 15 * times, 100 - 15 * times, 7 * times)]


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_backup_dies_at_each_stage_in_the_middle_of_a_batch(stage: str, all_or_nothing: bool) -> None:
    with scene() as world:
        begin(world)
        world.kill("backup", at=stage, after=8)
        calls = world.batch(*BATCH, all_or_nothing=all_or_nothing)
        assert [call.answer.new_balance for call in calls if call.answer] == BALANCES
        world.until_paired()
        world.heal()


@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_a_group_that_is_refused_stays_refused_when_the_primary_dies(stage: str) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=stage, after=2)
        calls = world.batch((Kind.DEPOSIT, "ann", 5), (Kind.WITHDRAW, "ann", 106), (Kind.DEPOSIT, "bob", 7))
        codes = [OutcomeCode(call.answer.code).name for call in calls if call.answer]
        assert codes == ["GROUP_REFUSED", "INSUFFICIENT_BALANCE", "GROUP_REFUSED"]
        world.heal()


LEGS = (("ann", "shop", 60), ("shop", "fees", 3), ("@world", "ann", 5))


def transferred(call: Call) -> tuple[int, ...]:
    """The balances that it was answered with, of ann, shop and fees."""
    assert call.answer is not None
    assert call.answer.code == OutcomeCode.OK
    return call.answer.figures


@pytest.mark.parametrize("policy", ["promote", "restart"])
@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_primary_dies_at_each_stage_of_a_transfer(stage: str, policy: str) -> None:
    with scene(on_primary_death=policy) as world:
        begin(world)
        world.kill("primary", at=stage)
        call = world.transfer(*LEGS)
        assert transferred(call) == (45, 57, 3)
        world.again(call)
        world.heal()


@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_a_transfer_that_is_refused_stays_refused_when_the_primary_dies(stage: str) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=stage)
        call = world.transfer(("ann", "shop", 60), ("ann", "fees", 41))
        assert call.answer is not None
        assert (call.answer.code, call.answer.leg) == (OutcomeCode.INSUFFICIENT_BALANCE, 1)
        world.deposit("ann", 50)
        world.again(call)
        world.heal()


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_backup_dies_at_each_stage_of_a_transfer(stage: str, power: bool) -> None:
    with scene() as world:
        begin(world)
        world.kill("backup", at=stage)
        assert transferred(world.transfer(*LEGS)) == (45, 57, 3)
        if power:
            world.kill("backup", power=True)
        world.until_paired()
        world.heal()


@pytest.mark.parametrize("backup_stage", BACKUP_STAGES)
@pytest.mark.parametrize("primary_stage", PRIMARY_STAGES)
def test_C6_both_lose_power_in_a_transfer(primary_stage: str, backup_stage: str) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=primary_stage)
        world.kill("backup", at=backup_stage)
        call = world.transfer(*LEGS, wait=False)
        world.run_until(lambda: not all(node.alive for node in world.world.nodes.values()), "one has died")
        for who in ("a", "b"):
            world.kill(who, power=True)
        world.run_until(lambda: call.answer is not None, "the answer")
        assert transferred(call) == (45, 57, 3)
        world.heal()


@pytest.mark.parametrize("all_or_nothing", [False, True])
@pytest.mark.parametrize("stage", PRIMARY_STAGES)
def test_C1_C2_C3_C4_primary_dies_in_the_middle_of_a_batch_with_transfers(stage: str, all_or_nothing: bool) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=stage, after=8)
        calls = world.batch(*[(Kind.DEPOSIT, "ann", 60), LEGS] * 6, all_or_nothing=all_or_nothing)
        assert [transferred(call) for call in calls[1::2]] == [
            (100 + 5 * times, 57 * times, 3 * times) for times in range(1, 7)
        ]
        world.heal()


@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_a_group_that_a_leg_refuses_moves_nothing_when_the_backup_dies(stage: str) -> None:
    with scene() as world:
        begin(world)
        world.kill("backup", at=stage, after=2)
        calls = world.batch((Kind.DEPOSIT, "ann", 5), LEGS, (("ann", "bob", 50), ("bob", "cid", 51)))
        codes = [OutcomeCode(call.answer.code).name for call in calls if call.answer]
        assert codes == ["GROUP_REFUSED", "GROUP_REFUSED", "INSUFFICIENT_BALANCE"]
        world.until_paired()
        world.heal()


@pytest.mark.parametrize("policy", ["promote", "restart"])
def test_C2_a_transfer_that_is_rolled_back_is_executed_once_when_it_is_asked_again(policy: str) -> None:
    with scene(on_primary_death=policy) as world:
        begin(world)
        world.kill("primary", at="pending")
        call = world.transfer(*LEGS, wait=False, gives_up=True)
        world.run_until(lambda: call.given_up, "the client gives up")
        world.until_paired()
        world.run_until(lambda: found(world, call) is not None, "it is on record")
        known = found(world, call)
        assert known is not None
        assert known.status is Status.ROLLED_BACK
        assert [(one.source, one.target, one.amount) for one in decode_legs(known.extra)] == list(LEGS)
        world.again(call)
        assert transferred(call) == (45, 57, 3)
        world.again(call)
        world.heal()


def found(world: Scene, call: Call) -> Transaction | None:
    """What the primary's ledger has under its id."""
    node = world.world.primary.node
    return node.ledger.find(call.transaction_id) if node is not None else None


@pytest.mark.parametrize("backup_stage", BACKUP_STAGES)
@pytest.mark.parametrize("primary_stage", PRIMARY_STAGES)
def test_C6_both_die_in_the_middle_of_a_group(primary_stage: str, backup_stage: str) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=primary_stage, after=5)
        world.kill("backup", at=backup_stage, after=5)
        calls = world.batch(*BATCH, wait=False)
        world.run_until(lambda: not all(node.alive for node in world.world.nodes.values()), "one has died")
        for who in ("a", "b"):
            world.kill(who, power=True)
        world.run_until(lambda: all(call.answer is not None for call in calls), "the answer")
        world.heal()


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_backup_dies_at_each_stage(stage: str, power: bool) -> None:
    with scene() as world:
        begin(world)
        was = world.world.register.primary
        world.kill("backup", at=stage)
        world.deposit("ann", 50)
        if power:
            world.kill("backup", power=True)
        world.until_paired()
        assert world.world.register.primary == was
        world.heal()


@pytest.mark.parametrize("backup_stage", BACKUP_STAGES)
@pytest.mark.parametrize("primary_stage", PRIMARY_STAGES)
@pytest.mark.parametrize("power", [False, True])
def test_C6_both_die_at_every_pair_of_stages(primary_stage: str, backup_stage: str, power: bool) -> None:
    with scene() as world:
        begin(world)
        world.kill("primary", at=primary_stage)
        world.kill("backup", at=backup_stage)
        call = world.deposit("ann", 50, wait=False)
        world.run_until(lambda: not all(node.alive for node in world.world.nodes.values()), "one has died")
        for who in ("a", "b"):
            world.kill(who, power=power)
        world.run_until(lambda: call.answer is not None, "the answer")
        world.heal()


def test_O1_backup_that_missed_writes_is_not_promoted() -> None:
    with scene() as world:
        begin(world)
        old, missed = world.world.register.primary, world.world.backup.name
        world.keep_down(missed)
        world.kill(missed)
        world.deposit("ann", 50)
        assert world.mode == "solo"
        world.keep_down(old)
        world.kill(old)
        world.let_start(missed)
        call = unanswered_for(world, 10.0)
        assert world.world.register.primary == old
        world.let_start(old)
        world.run_until(lambda: call.answer is not None, "the answer")
        assert call.answer is not None
        assert call.answer.new_balance == 157
        world.heal()


def test_O2_old_primary_is_not_promoted() -> None:
    with scene() as world:
        begin(world)
        old, heir = world.world.register.primary, world.world.backup.name
        world.keep_down(old)
        world.kill(old)
        world.deposit("ann", 50)
        assert world.world.register.primary == heir
        world.keep_down(heir)
        world.kill(heir)
        world.let_start(old)
        call = unanswered_for(world, 10.0)
        assert world.world.register.primary == heir
        world.let_start(heir)
        world.run_until(lambda: call.answer is not None, "the answer")
        world.heal()


@pytest.mark.parametrize("who", ["primary", "backup"])
@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.002, 0.004, 0.008, 0.02])
def test_O3_a_node_dies_around_the_record_of_a_join(who: str, after_s: float) -> None:
    with scene() as world:
        begin(world)
        world.kill("backup")
        world.deposit("ann", 50)
        world.run_until(lambda: world.world.coverage["primary: closing-in -> joining"] > 0, "the join is asked for")
        world.run(after_s)
        world.kill(who, power=True)
        world.deposit("ann", 1)
        world.heal()


def test_G1_primary_is_stopped_and_goes_on_after_a_promotion() -> None:
    with scene() as world:
        begin(world)
        old = world.world.register.primary
        world.pause(old)
        world.deposit("ann", 50)
        assert world.world.register.primary != old
        world.resume(old)
        world.heal()


def test_G2_backup_is_stopped() -> None:
    with scene() as world:
        begin(world)
        backup, began = world.world.backup.name, world.now
        world.pause(backup)
        world.deposit("ann", 50)
        assert world.now - began < world.world.config.ack_timeout_s + 0.5
        assert world.mode == "solo"
        world.resume(backup)
        world.heal()


def test_G4_a_sync_takes_five_seconds() -> None:
    with scene() as world:
        begin(world)
        before = leader_and_starts(world)
        world.fault("stalled-disk", "primary", 5.0)
        call = unanswered_for(world, 2.5)
        world.run_until(lambda: call.answer is not None, "the answer")
        assert leader_and_starts(world) == before
        world.heal()


def test_N1_link_is_cut_and_both_reach_the_witness() -> None:
    with scene() as world:
        begin(world)
        primary, backup = world.world.register.primary, world.world.backup.name
        world.fault("cut", "primary", 8.0)
        world.deposit("ann", 50)
        assert set(world.world.register.in_sync) == {primary}
        world.keep_down(primary)
        world.kill(primary)
        world.run(3.0)
        assert world.world.register.primary == primary, f"{backup} lacks what was answered alone"
        world.let_start(primary)
        world.heal()


def test_N2_primary_cut_from_the_witness_goes_on_and_does_not_go_alone() -> None:
    with scene() as world:
        begin(world)
        world.fault("witness-silent", "a", 10.0)
        world.deposit("ann", 50)
        assert world.mode == "paired"
        world.fault("cut", "primary", 4.0)
        call = unanswered_for(world, 3.5)
        world.run_until(lambda: call.answer is not None, "the answer")
        world.heal()


@pytest.mark.parametrize("who", ["primary", "backup"])
def test_N3_cut_of_one_direction(who: str) -> None:
    with scene() as world:
        begin(world)
        before = leader_and_starts(world)
        world.fault("cut-one-way", who, 8.0)
        world.deposit("ann", 50)
        world.read("ann")
        world.run(10.0)
        world.deposit("ann", 50)
        assert leader_and_starts(world) == before
        world.heal()


def test_N4_backup_vanishes_without_a_word() -> None:
    with scene() as world:
        begin(world)
        world.keep_down("backup")
        world.kill("backup", power=True)
        world.deposit("ann", 50)
        assert world.mode == "solo"
        world.heal()


@pytest.mark.parametrize("who", ["primary", "backup"])
def test_N6_a_link_of_a_few_messages_a_second(who: str) -> None:
    with scene() as world:
        begin(world)
        world.fault("clog", who, 8.0)
        calls = [world.deposit("ann", 1, wait=False) for _ in range(60)]
        world.run_until(lambda: all(call.answer is not None for call in calls), "the answers")
        world.heal()


@pytest.mark.parametrize("jump_s", [-86_400.0, 86_400.0])
@pytest.mark.parametrize("who", ["primary", "backup"])
def test_T1_wall_clock_jumps(who: str, jump_s: float) -> None:
    with scene() as world:
        begin(world)
        before = leader_and_starts(world)
        first = world.deposit("ann", 1)
        world.fault("clock", who, jump_s)
        second = world.deposit("ann", 1)
        world.run(5.0)
        assert first.answer is not None
        assert second.answer is not None
        assert second.answer.time_us >= first.answer.time_us
        assert leader_and_starts(world) == before
        world.heal()


@pytest.mark.parametrize("operation", range(8))
@pytest.mark.parametrize("who", ["primary", "backup"])
def test_D2_a_disk_operation_fails(who: str, operation: int) -> None:
    with scene() as world:
        begin(world)
        world.fault("eio", who, operation)
        for _ in range(5):
            world.deposit("ann", 1)
        assert "DISK_FAULT" in "\n".join(world.trace)
        world.heal()


@pytest.mark.parametrize("who", ["primary", "backup"])
def test_I1_emptied_directory(who: str) -> None:
    with scene() as world:
        begin(world)
        world.fault("wipe", who)
        world.deposit("ann", 1)
        world.heal()
