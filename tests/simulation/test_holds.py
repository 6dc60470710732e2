"""Holds in directed worlds: through every crash of both nodes, across failovers and clocks, and raced."""

from __future__ import annotations

from itertools import product

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from ftwallet.ledger.holds import HELD, HoldState, decode_hold, hold_key, release_terms
from ftwallet.ledger.outcomes import OutcomeCode
from tests.simulation.clients import Call
from tests.simulation.scene import Scene, scene

STAGES = [*product(["primary"], PRIMARY_STAGES), *product(["backup"], BACKUP_STAGES)]
DAY_S = 86_400.0
SOON_S = 0.5
"""How much later than its time a hold is still open, at most, while a primary serves."""


def begin(world: Scene) -> None:
    world.until_paired()
    world.deposit("ann", 5_000)


def state_of(world: Scene, hold_id: str) -> HoldState | None:
    node = world.node("primary").node
    record = node.ledger.state.record(hold_key(hold_id)) if node is not None else None
    return decode_hold(record).state if record else None


def until_expired(world: Scene, hold_id: str, within_s: float) -> None:
    world.run_until(lambda: state_of(world, hold_id) is HoldState.EXPIRED, f"{hold_id} has expired", within_s)
    late = world.capture(hold_id, "bob")
    assert code(late) is OutcomeCode.HOLD_EXPIRED
    ends = [one for one in world.world.expiries.values() if release_terms(one.extra).hold_id == hold_id]
    node = world.node("primary").node
    assert node is not None
    record = node.ledger.state.record(hold_key(hold_id))
    assert record is not None
    assert all(one.time_us >= decode_hold(record).expires_us for one in ends)
    assert len(ends) == 1


def code(call: Call) -> OutcomeCode:
    assert call.answer is not None
    return OutcomeCode(call.answer.code)


def test_a_hold_is_open_until_its_time_and_expires_soon_after() -> None:
    with scene() as world:
        begin(world)
        world.hold("ann", 300, "h", expires_in_s=2)
        world.run(1.95)
        assert state_of(world, "h") is HoldState.OPEN
        until_expired(world, "h", SOON_S)
        world.heal()


def test_holds_and_captures_that_race_never_overspend() -> None:
    with scene() as world:
        begin(world)
        holds = [world.hold("ann", 1_000, f"h{number}", wait=False) for number in range(6)]
        world.run_until(lambda: all(one.answer is not None for one in holds))
        refused = [one.transaction_id for one in holds if code(one) is OutcomeCode.INSUFFICIENT_BALANCE]
        assert len(refused) == 1
        assert code(world.capture(refused[0], "bob")) is OutcomeCode.HOLD_NOT_FOUND
        placed = next(one.transaction_id for one in holds if one.transaction_id not in refused)
        captures = [world.capture(placed, "bob", 600, wait=False) for _ in range(3)]
        ends = [world.release(placed, wait=False), world.capture(placed, "bob", wait=False)]
        world.run_until(lambda: all(one.answer is not None for one in (*captures, *ends)))
        assert [code(one) for one in captures].count(OutcomeCode.OK) <= 1
        world.heal()


# ---- Through deaths


@pytest.mark.parametrize("what", ["hold", "capture", "release"])
@pytest.mark.parametrize(("who", "stage"), STAGES)
def test_C4_C5_a_hold_under_way_happens_once(who: str, stage: Stage, what: str) -> None:
    with scene() as world:
        begin(world)
        world.hold("ann", 300, "h")
        world.kill(who, at=str(stage))
        match what:
            case "hold":
                asked = world.hold("ann", 200, "again")
            case "capture":
                asked = world.capture("h", "bob", 100)
            case _:
                asked = world.release("h")
        world.again(asked)
        world.heal()
        assert code(asked) is OutcomeCode.OK


@pytest.mark.parametrize("operation", range(8))
@pytest.mark.parametrize("kind", ["kill-op", "crash-op"])
@pytest.mark.parametrize("who", ["primary", "backup"])
def test_C4_C5_an_expiry_under_way_happens_once(who: str, kind: str, operation: int) -> None:
    with scene() as world:
        begin(world)
        world.hold("ann", 300, "h", expires_in_s=1)
        world.run(0.98)
        world.fault(kind, who, operation)
        world.run_until(lambda: state_of(world, "h") is HoldState.EXPIRED, "it has expired")
        world.heal()
        primary = world.node("primary").node
        assert primary is not None
        assert primary.ledger.balance("ann") == 5_000
        assert not primary.ledger.balance(HELD + "ann")


@pytest.mark.parametrize("placed_s", [0.0, 1.5, 1.99])
def test_C4_a_hold_of_the_primary_that_died_expires_on_the_new_one(placed_s: float) -> None:
    with scene() as world:
        begin(world)
        leads = world.node("primary").name
        world.hold("ann", 300, "h", expires_in_s=2)
        world.run(placed_s)
        world.keep_down("primary")
        world.kill("primary")
        world.run_until(lambda: world.node("primary").name != leads and world.mode == "solo", "another leads")
        until_expired(world, "h", 2.0 + SOON_S)
        world.heal()


@pytest.mark.parametrize("before_s", [0.1, 0.06, 0.04, 0.02, 0.01, 0.0, -0.02, -0.04, -0.06])
def test_a_switchover_while_a_hold_expires_leaves_nothing_to_cut(before_s: float) -> None:
    """Also what nobody waits for is on both nodes before the other leads."""
    with scene() as world:
        begin(world)
        leads = world.node("primary").name
        world.hold("ann", 300, "h", expires_in_s=1)
        world.run(1.0 - before_s)
        world.fault("switchover")
        world.run_until(lambda: world.node("primary").name != leads and world.world.paired(), "the other leads")
        until_expired(world, "h", SOON_S)
        assert not any(world.world.cut_frames.values())
        world.heal()


# ---- Clocks


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S])
@pytest.mark.parametrize("whose", ["primary", "backup"])
def test_T1_a_hold_across_a_failover_between_clocks_that_are_a_day_apart(whose: str, jump_s: float) -> None:
    with scene() as world:
        begin(world)
        world.fault("clock", whose, jump_s)
        world.hold("ann", 300, "h", expires_in_s=2)
        world.run(0.5)
        assert state_of(world, "h") is HoldState.OPEN
        world.kill("primary")
        world.deposit("ann", 1)
        until_expired(world, "h", 2 * 2.0 + SOON_S)  # behind the log, a primary's time goes on at half the speed
        world.heal()


def test_T1_a_clock_that_is_set_back_keeps_no_hold_for_longer_than_twice_its_time() -> None:
    with scene() as world:
        begin(world)
        world.hold("ann", 300, "h", expires_in_s=2)
        world.fault("clock", "primary", -DAY_S)
        world.run(1.95)
        assert state_of(world, "h") is HoldState.OPEN
        until_expired(world, "h", 2 * 2.0 + SOON_S)
        world.heal()
