"""The simulated worlds can fail: shipped rules, broken on purpose, are caught within a few of them."""

from __future__ import annotations

import os

import pytest

from tests.simulation.breaks import BREAKS, SEEDS, find

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
    "rollback-solo": "durable",
}
"""Caught by one of the first worlds, and by which invariant."""

WORLDS = SEEDS if os.environ.get("CAMPAIGN") == "full" else 6


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SOON)
def test_a_broken_rule_is_caught(name: str) -> None:
    caught = find(next(one for one in BREAKS if one.name == name), WORLDS)
    assert caught.violation is not None, "no world noticed"
    assert caught.violation.startswith(f"{SOON[name]}: ")
