"""`python -m tests.simulation`: run worlds, replay one, print what was covered. See the package's first lines."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ftwallet.replication.states import BACKUP_MOVES, PRIMARY_MOVES
from tests.simulation import plan, runner
from tests.simulation.runner import Result

CHUNK = 25
ELSEWHERE = {
    "backup: aligning -> greeted": "the shell ends aligning before it takes the next message; tests/replication has it"
}
"""Moves of the protocol that the shipped shells do not make, and why."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds (200)")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed (0)")
    parser.add_argument("--seed", type=int, help="this one alone, with its story")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--coverage", action="store_true", help="count moves, stages, faults; exit code 1 if one was never made"
    )
    parser.add_argument("--no-shrink", action="store_true", help="tell a failing world as it is")
    told = parser.parse_args()
    seeds = [told.seed] if told.seed is not None else range(told.first, told.first + told.seeds)
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    print(f"{which}, commit {commit()}", flush=True)
    if told.seed is not None:
        return tell(runner.run(plan.make(told.seed)), shrink=not told.no_shrink, whole=True)
    coverage, failed, worlds, answered, began = Counter[str](), None, 0, 0, time.perf_counter()
    for results in run_all(list(seeds), told.jobs):
        for seed, violation, covered, count in results:
            coverage += covered
            worlds, answered = worlds + 1, answered + count
            if violation is not None:
                print(f"seed {seed}: {violation}", flush=True)
                failed = seed if failed is None else failed
    took = time.perf_counter() - began
    print(f"{worlds} worlds, {answered} answers, {took:.0f} s, {took / worlds * 1000:.0f} ms a world")
    if told.coverage and not tell_coverage(coverage):
        return 1
    return 0 if failed is None else tell(runner.run(plan.make(failed)), shrink=not told.no_shrink, whole=False)


Summary = tuple[int, str | None, Counter[str], int]


def run_some(seeds: list[int]) -> list[Summary]:
    results = (runner.run(plan.make(seed)) for seed in seeds)
    return [(one.plan.seed, one.violation, one.coverage, one.answered) for one in results]


def run_all(seeds: list[int], jobs: int) -> Iterator[list[Summary]]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(run_some, chunks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_some, chunks)


def tell(result: Result, *, shrink: bool, whole: bool) -> int:
    """Print a world's story; a failing one's as short as it can be."""
    if result.violation is None:
        print("\n".join(result.trace) if whole else "")
        print(f"all held; {result.answered} answers, {result.steps} steps, fingerprint {result.fingerprint}")
        return 0
    if shrink:
        print(
            f"seed {result.plan.seed} breaks an invariant with {len(result.plan.faults)} faults; shrinking", flush=True
        )
        result = runner.shrink(result, lambda said: print(f"  {said}", flush=True))
    print("\n".join(result.trace))
    print("\nWhat went wrong on purpose:")
    print("\n".join(f"  {fault}" for fault in result.plan.faults))
    print(f"\n{result.violation}")
    print(f"again: python -m tests.simulation --seed {result.plan.seed}")
    return 1


def tell_coverage(coverage: Counter[str]) -> bool:
    """Print how often each move of the protocol was made and each fault happened; whether every move was made."""
    expected = set(expected_moves())
    for name in (*expected_moves(), *sorted(name for name in coverage if name not in expected)):
        print(f"{coverage[name]:9,}  {name}")
    never = [name for name in expected_moves() if not coverage[name]]
    for name in never:
        print(f"never made: {name}")
    for name, why in ELSEWHERE.items():
        print(f"not expected: {name}: {why}")
    return not never


def expected_moves() -> list[str]:
    """Every move that the shipped shells can make, and every stage to be killed at, as coverage names them."""
    moves = [f"primary: {before} -> {after}" for before, after in PRIMARY_MOVES]
    moves += [f"backup: {before} -> {after}" for before, after in BACKUP_MOVES]
    stages = [f"stage: {role} {stage}" for role, known in plan.STAGES.items() for stage in known]
    return [name for name in (*moves, *stages) if name not in ELSEWHERE]


def commit() -> str:
    """Of this checkout, with a + when it was changed since; unknown where there is no git."""
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
