"""Running a plan: what it comes to, and the shortest plan that still comes to the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.simulation import checker, plan
from tests.simulation.clients import Clients
from tests.simulation.holds import LONGEST_S
from tests.simulation.loop import Stuck
from tests.simulation.plan import Plan
from tests.simulation.watch import Watch
from tests.simulation.world import Violated, World, simulated

HEALED_WITHIN_S = 90.0
REPORTED_WITHIN_S = 5.0
EXPIRED_WITHIN_S = 2 * LONGEST_S + 2.0
"""A log that is ahead of its primary's wall clock goes on at half that speed."""


class Result(NamedTuple):
    """`violation` is None when all held."""

    plan: Plan
    violation: str | None
    trace: list[str]
    fingerprint: str
    coverage: Counter[str]
    answered: int
    steps: int


def run(todo: Plan) -> Result:
    """Play a plan: everything goes wrong, then nothing, and then everything must be well."""
    with simulated(todo.seed, on_primary_death=todo.policy, request_timeout_s=todo.request_timeout_s) as world:
        clients = Clients(world)
        try:
            world.run(_play(world, clients, todo))
        except Stuck as stuck:
            world.fail(f"stuck: {stuck}")
        except Violated:
            pass
        answered = sum(call.answer is not None for call in clients.history.calls.values())
        world.graveyard.append(clients.process)
        violation = str(world.violation) if world.violation else None
        return Result(
            todo, violation, list(world.trace), world.fingerprint(), world.coverage, answered, world.loop.steps
        )


async def _play(world: World, clients: Clients, todo: Plan) -> None:
    Watch(world)
    clients.begin(todo.clients, todo.pace_s)
    random = Random(f"{todo.seed} crowd")
    if todo.crowd:
        world.network.later(random.uniform(1.0, todo.seconds), clients.crowd, todo.crowd, random)
    await plan.inject(world, todo)
    if not await world.until(lambda: world.violation is not None, todo.seconds - world.loop.time()):
        await end_well(world, clients)


async def end_well(world: World, clients: Clients) -> None:
    """Phase two: nothing goes wrong any more, and within bounded time all must be well."""
    world.heal()
    clients.stopping = True
    well = await world.until(lambda: clients.idle and world.paired() and world.equal(), HEALED_WITHIN_S)
    if world.violation is not None:
        return
    if not well:
        stand = {name: (node.alive, node.given_up or node.sentence) for name, node in world.nodes.items()}
        world.fail(f"converge: not paired after {HEALED_WITHIN_S:g} s of peace: {world.register} {stand}")
        return
    world.at_peace = True
    await world.until(lambda: not checker.open_expiries(world), EXPIRED_WITHIN_S)
    # Paired they may be while the report of what one has cut is still on its way.
    await world.until(lambda: world.equal() and checker.all_cut_is_on_record(world), REPORTED_WITHIN_S)
    checker.check(world, clients.history)


def shrink(failed: Result, say: Callable[[str], None] = lambda _: None, rounds: int = 200) -> Result:
    """Leave out what is not needed for the same invariant to break. The source of the algorithm: Zeller's ddmin."""
    best, invariant = failed, (failed.violation or "").split(":")[0]

    def still_fails(smaller: Plan, what: str) -> bool:
        nonlocal best, rounds
        rounds -= 1
        tried = run(smaller)
        if tried.violation is None or tried.violation.split(":")[0] != invariant:
            return False
        best = tried
        say(what)
        return True

    size = max(1, len(best.plan.faults) // 2)
    while size >= 1 and rounds > 0:
        at, smaller = 0, False
        while at < len(best.plan.faults) and rounds > 0:
            faults = best.plan.faults[:at] + best.plan.faults[at + size :]
            if still_fails(best.plan._replace(faults=faults), f"{len(faults)} faults are enough"):
                smaller = True
            else:
                at += size
        size = size if smaller and size == 1 else size // 2
    if best.plan.crowd:
        still_fails(best.plan._replace(crowd=0), "no crowd is needed")
    while best.plan.clients > 1 and still_fails(
        best.plan._replace(clients=best.plan.clients - 1), f"{best.plan.clients - 1} clients are enough"
    ):
        pass
    while best.plan.pace_s < 1.0 and still_fails(best.plan._replace(pace_s=best.plan.pace_s * 2), "half as often"):
        pass
    return best
