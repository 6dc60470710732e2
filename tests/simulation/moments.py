"""Directed worlds for `breaks.py`: each sets up the one moment that a rule is about, and passes when nothing is broken.

Random worlds come to such a moment too seldom, because several things must go wrong in one order. Each docstring tells
the counter-example: how money would be lost without the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
                    violation = str(world.world.violation or f"scene: {str(error).splitlines()[-1]}")
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
