"""The simulated worlds can fail: every shipped rule, broken on purpose, is caught, and nothing is caught without."""

from __future__ import annotations

import os

import pytest

from tests.simulation.breaks import BREAKS, SEEDS, Break, find
from tests.simulation.moments import Moment, Told

INVARIANTS: dict[str, str | tuple[str, ...]] = {
    "ack-early": "durable",
    "send-early": "durable",
    "commit-alone": "durable",
    "promote-name": "durable",
    "damaged-stays": "durable",
    "answer-early": "durable",
    "unsynced-append": "durable",
    "no-dedup": "one answer",
    "twice": "one answer",
    "group-apart": "all or nothing",
    "legs-stay": ("outcome", "balance"),
    "first-leg": ("digests", "replay", "outcome"),
    "transfer-twice": ("one answer", "exactly once"),
    "capture-again": "outcome",
    "node-clock": ("digests", "outcome", "replay"),
    "back-twice": ("outcome", "balance"),
    "no-look": "expiry",
    "late-history": "log",
    "no-copy": "copy",
    "old-copies": "durable",
    "settle-any": "crash",
    "corrupt-is-torn": "durable",
    "promote-any": "durable",
    "naive-rollback": ("durable", "one answer"),
    "rollback-solo": ("durable", "digests"),
    "no-fence": "digests",
    "same-epoch": "digests",
    "ack-alone": "durable",
    "join-early": "durable",
    "join-acks-alone": "durable",
    "join-other": "durable",
    "blocks-first": "durable",
    "sync-unchecked": "durable",
    "rollback-alone": "durable",
    "forward-unacked": "durable",
    "no-rollbacks": "rolled back",
    "no-report": "rolled back",
    "cut-forgotten": "rolled back",
    "barred": "retry",
}
"""What each would do, by the invariant that it breaks; of two where a random world may show either.

Others end in a pair that is never paired again, or worse.
"""

WORLDS = SEEDS if os.environ.get("CAMPAIGN") == "full" else 6
"""How many random worlds; each break is caught by one of the first, or by the directed one that it names."""

MOMENTS = {broken.moment.name: broken.moment for broken in BREAKS if broken.moment is not None}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_a_broken_rule_is_caught(broken: Break) -> None:
    caught = find(broken, WORLDS)
    assert caught.violation is not None, f"no world noticed that {broken.rule}"
    assert caught.violation.startswith(INVARIANTS.get(broken.name, ""))


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=lambda moment: moment.name)
def test_a_directed_world_passes_with_nothing_broken(moment: Moment) -> None:
    assert moment.play().violation is None


def test_a_world_that_fails_with_nothing_broken_catches_nothing() -> None:
    always = Moment("always", lambda: Told("durable: whatever is done", 1, 0))
    assert find(BREAKS[0]._replace(moment=always), 1).violation is None
