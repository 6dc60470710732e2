"""The deterministic simulation: a sample of worlds, that a seed replays exactly, and that a failure gets short.

Rows of FAULTS that the worlds contain, each with the faults of `plan.KINDS` that make it: see `docs/faults.toml`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from ftwallet.replication.effects import Commit
from ftwallet.replication.primary import Primary
from tests.simulation import plan, runner
from tests.simulation.__main__ import expected_moves, run_all
from tests.simulation.plan import Fault, Plan

WORLDS = 10_000 if os.environ.get("CAMPAIGN") == "full" else 600
WORLDS_A_TEST = 100


@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_A_TEST))
def test_nothing_acknowledged_is_lost_in_any_world(first: int) -> None:
    coverage: Counter[str] = Counter()
    for results in run_all(list(range(first, first + WORLDS_A_TEST)), os.cpu_count() or 1):
        for seed, violation, covered, _ in results:
            assert violation is None, f"{violation}; its story: python -m tests.simulation --seed {seed}"
            coverage += covered
    never = [name for name in expected_moves() if not coverage[name]]
    assert len(never) <= len(expected_moves()) // 4, f"the worlds are too tame: never made: {never}"


def test_a_seed_replays_exactly_also_in_another_process() -> None:
    here = runner.run(plan.make(7))
    assert here.fingerprint == runner.run(plan.make(7)).fingerprint
    assert here.fingerprint != runner.run(plan.make(8)).fingerprint
    for hash_seed in ("1", "2"):
        elsewhere = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert here.fingerprint in elsewhere.stdout


def test_a_failing_world_gets_a_short_story(monkeypatch: pytest.MonkeyPatch) -> None:
    def commit_what_is_here_alone(primary: Primary) -> list[object]:
        primary.commit_lsn = primary.durable_lsn
        return [Commit(primary.durable_lsn)]

    monkeypatch.setattr(Primary, "_commit", commit_what_is_here_alone)
    faults = tuple(Fault(1.0 + number / 3, kind, "backup") for number, kind in enumerate(("clock", "kill", "clock")))
    failed = runner.run(Plan(1, "promote", 2, 0.05, 6.0, faults))
    assert failed.violation is not None
    assert failed.violation.startswith("durable: ")
    assert len(runner.shrink(failed).plan.faults) <= 1
