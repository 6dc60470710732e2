"""The simulated worlds can fail: shipped rules, broken on purpose, are caught.

At once by a directed world or by a seed that is known to notice; CAMPAIGN=full takes all, and random worlds for those
that none is known for.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.breaks import BREAKS, SEEDS, Break, find
from tests.simulation.moments import Moment

SOON = {
    "ack-early": "durable",
    "send-early": "durable",
    "commit-alone": "durable",
    "promote-name": "durable",
    "damaged-stays": "durable",
    "answer-early": "durable",
    "unsynced-append": "durable",
    "no-dedup": "one answer",
    "twice": "one answer",
    "late-history": "log",
    "no-copy": "copy",
    "old-copies": "durable",
    "settle-any": "crash",
    "corrupt-is-torn": "durable",
    "promote-any": "durable",
    "naive-rollback": "durable",
    "rollback-solo": "digests",
}
"""Caught by one of the first random worlds, and by which invariant."""

FULL = os.environ.get("CAMPAIGN") == "full"
WORLDS = SEEDS if FULL else 6
IN_THEIR_MOMENT = [one for one in BREAKS if one.moment is not None]
OTHERS = [one for one in BREAKS if FULL and one.name not in SOON and one.moment is None]
MOMENTS = {one.moment.name: one.moment for one in IN_THEIR_MOMENT if one.moment is not None}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SOON)
def test_a_broken_rule_is_caught(name: str) -> None:
    caught = find(next(one for one in BREAKS if one.name == name), WORLDS)
    assert caught.violation is not None, "no world noticed"
    assert caught.violation.startswith(f"{SOON[name]}: ")


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=lambda moment: moment.name)
def test_a_directed_world_passes_with_nothing_broken(moment: Moment) -> None:
    assert moment.play().violation is None


@pytest.mark.parametrize("broken", IN_THEIR_MOMENT, ids=lambda broken: broken.name)
def test_a_broken_rule_is_caught_in_its_moment(broken: Break) -> None:
    with broken.patch():
        told = broken.moment.play() if broken.moment else None
    assert told is not None
    assert told.violation is not None, "nobody noticed"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", OTHERS, ids=lambda broken: broken.name)
def test_every_other_broken_rule_is_caught(broken: Break) -> None:
    assert find(broken, SEEDS).violation is not None, "no world noticed"
