"""The protocol in a random world, and each of its rules broken on purpose."""

import os

import pytest

from ftwallet.replication.states import BackupState, PrimaryState
from tests.replication.breaks import BREAKS, Break, find
from tests.replication.world import run

WORLDS = 20_000 if os.environ.get("CAMPAIGN") == "full" else 1_000
WORLDS_A_TEST = 1_000


@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_A_TEST))
def test_nothing_acknowledged_is_lost_and_the_pair_heals(first: int) -> None:
    visited: set[tuple[str, str]] = set()
    rolled_back = 0
    for seed in range(first, first + WORLDS_A_TEST):
        world = run(seed, 400)
        visited |= world.moves
        rolled_back += len(world.rolled_back)
    assert {state for role, state in visited if role == "primary"} == set(PrimaryState)
    assert {state for role, state in visited if role == "backup"} == set(BackupState)
    assert rolled_back > 0, "the worlds never came to a rollback"


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_a_broken_rule_is_found(broken: Break) -> None:
    assert find(broken, 6_000, 400), f"no world finds that {broken.rule}"
