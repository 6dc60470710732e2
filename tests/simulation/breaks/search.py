"""The search for a world that notices a break."""

from __future__ import annotations

import sys
from typing import NamedTuple

from tests.simulation import plan, runner
from tests.simulation.breaks.breaking import Break
from tests.simulation.moments import Moment

SEEDS = 400


class Caught(NamedTuple):
    """`violation` is None when no world noticed. `world`: the moment, or the seed."""

    name: str
    violation: str | None
    world: str = "-"
    steps: int = 0
    faults: int = 0


def find(broken: Break, seeds: int) -> Caught:
    """The directed world, or else the first random one that notices, the one of the hint first."""
    if broken.moment is not None:
        return _find_in_its_moment(broken, broken.moment)
    for seed in (broken.hint, *range(seeds)):
        todo = plan.make(seed, broken.kinds)
        with broken.patch():
            result = runner.run(todo)
        if result.violation is not None:
            whole = runner.run(todo).violation
            if whole is not None:
                _say_that_it_fails_whole(f"seed {seed} of {broken.kinds}", whole)
                continue
            return Caught(broken.name, result.violation, str(seed), result.steps, len(todo.faults))
    return Caught(broken.name, None)


def _find_in_its_moment(broken: Break, moment: Moment) -> Caught:
    with broken.patch():
        told = moment.play()
    if told.violation is not None and (whole := moment.play().violation) is not None:
        _say_that_it_fails_whole(moment.name, whole)
        return Caught(broken.name, None, moment.name)
    return Caught(broken.name, told.violation, moment.name, told.steps, told.faults)


def _say_that_it_fails_whole(world: str, violation: str) -> None:
    print(f"{world} fails with nothing broken: {violation}", file=sys.stderr, flush=True)
