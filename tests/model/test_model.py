"""Every state of small pairs is visited: nothing is lost in any; and each rule left out is missed."""

from __future__ import annotations

import os

import pytest

from tests.model.breaks import BREAKS, Break
from tests.model.protocol import Bounds
from tests.model.search import search

SMALL = {
    "crashes": Bounds(),
    "pipelined": Bounds(operations=2, wire=2, epochs=3),
    "duplicates": Bounds(duplicates=1, epochs=3),
    "wiped": Bounds(wipes=1, epochs=3),
    "damaged": Bounds(damages=1, epochs=3),
    "state sync": Bounds(appends=1, syncs=1, sessions=3, epochs=3),
    "old copies": Bounds(appends=1, copies=1, crashes=0, epochs=3),
    "reads and switchover": Bounds(reads=1, resignations=1),
}
LARGE = {
    "crashes": Bounds(crashes=2, sessions=3),
    "pipelined": Bounds(operations=2, appends=3, wire=2),
    "duplicates": Bounds(operations=2, duplicates=1, wire=2),
    "wiped": Bounds(wipes=1, sessions=3),
    "damaged": Bounds(damages=1, syncs=1, sessions=3),
    "state sync": Bounds(appends=1, syncs=1, sessions=4),
    "old copies": Bounds(appends=1, copies=1, epochs=3),
    "reads and switchover": Bounds(reads=1, resignations=1, sessions=3, crashes=2),
}
CONFIGURATIONS = LARGE if os.environ.get("CAMPAIGN") == "full" else SMALL


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_is_lost_in_any_state(name: str) -> None:
    found = search(CONFIGURATIONS[name])
    assert not found.why, "\n".join((found.why, *found.history))
    assert found.whole


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_a_rule_left_out_is_missed(broken: Break) -> None:
    found = search(broken.bound, broken.name)
    assert found.invariant == broken.invariant
