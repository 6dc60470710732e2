"""The format of a scenario, and playing one: the same text again, with what was seen in the place of what should be."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.scenarios.commands import Stage
from tests.simulation.loop import Stuck
from tests.simulation.world import Violated, simulated

DIRECTORY = Path(__file__).parent
DASHES = "----"
SEED = 1
POLICY = "policy "
FAULTS = {
    *("kill", "power-loss", "eio", "pause", "supervisor", "cut", "witness", "clock", "replay", "wipe", "old-copy"),
    *("flip", "disk", "stall"),
}


class Block(NamedTuple):
    """Commands that are played together, with the comment lines before them."""

    comment: tuple[str, ...]
    commands: tuple[str, ...]


class Seen(NamedTuple):
    """The whole text as it was seen; `violation` names the invariant that was broken, or is None."""

    text: str
    violation: str | None
    steps: int
    faults: int


def files() -> list[Path]:
    return sorted(DIRECTORY.glob("*.txt"))


def parse(text: str) -> Iterator[Block]:
    """Yield the blocks of a scenario. Raises ValueError for commands without dashes."""
    for part in text.strip("\n").split("\n\n"):
        lines = part.split("\n")
        comment = tuple(line for line in lines if line.startswith("#"))
        rest = lines[len(comment) :]
        if not rest:
            yield Block(comment, ())
        elif DASHES not in rest or rest[0] == DASHES:
            raise ValueError(f"after {rest[0]!r} a line of four dashes is missing, and behind it what must be seen")
        else:
            yield Block(comment, tuple(rest[: rest.index(DASHES)]))


def play(text: str) -> Seen:
    """Play a scenario from its commands alone."""
    blocks = list(parse(text))
    policies = [line.removeprefix(POLICY) for block in blocks for line in block.commands if line.startswith(POLICY)]
    with simulated(SEED, on_primary_death=policies[0] if policies else "promote") as world:
        stage = Stage(world)
        parts: list[str] = []
        try:
            world.run(stage.begin())
            for block in blocks:
                parts.append(_play(stage, block))
            world.run(stage.end())
        except Stuck as stuck:
            world.fail(f"stuck: {stuck}")
        except Violated:
            pass  # `world.violation` has it
        violation = str(world.violation) if world.violation is not None else None
        stage.dispose()
        faults = sum(line.split()[0] in FAULTS for block in blocks for line in block.commands)
        return Seen("\n\n".join(parts) + "\n", violation, world.loop.steps, faults)


def _play(stage: Stage, block: Block) -> str:
    lines = [*block.comment]
    if block.commands:
        seen = [line for command in block.commands for line in stage.world.run(stage.command(command))]
        lines += [*block.commands, DASHES, *(seen or ["ok"])]
    return "\n".join(lines)


def difference(name: str, expected: str, seen: str) -> str:
    """Expected and seen as a unified diff."""
    lines = difflib.unified_diff(
        expected.splitlines(), seen.splitlines(), f"{name} as expected", f"{name} as seen", lineterm="", n=4
    )
    return "\n".join(lines)
