"""The tests are worth what they catch: rules of the shipped code broken on purpose, a sample of them by default."""

from __future__ import annotations

import os
import random

import pytest

from tests.faults.breaks import BREAKS, run
from tests.faults.broken_node import PATCHES

SEED = 20_251_124
_SAMPLE = sorted(BREAKS) if os.environ.get("CAMPAIGN") == "full" else random.Random(SEED).sample(sorted(BREAKS), 2)


@pytest.mark.parametrize("name", _SAMPLE)
def test_a_broken_rule_is_caught(name: str) -> None:
    verdict = run(name)
    assert verdict.caught, verdict.output


def test_every_break_has_its_test() -> None:
    assert BREAKS.keys() == PATCHES.keys()
