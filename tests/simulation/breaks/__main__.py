"""`python -m tests.simulation.breaks`: break the rules in turn, and tell what caught each."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation import breaks
from tests.simulation.breaks import BREAKS, SEEDS, Caught, find


def _find(name: str, seeds: int) -> Caught:
    return find(next(one for one in BREAKS if one.name == name), seeds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.breaks", description=breaks.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a break; without any, all of them")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"worlds to search each in ({SEEDS})")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    told = parser.parse_args()
    unknown = set(told.names) - {broken.name for broken in BREAKS}
    if unknown:
        parser.error(f"there is no break named {', '.join(sorted(unknown))}")
    chosen = [broken for broken in BREAKS if broken.name in told.names or not told.names]
    print(f"{'break':20} {'seed or moment':50} {'steps':>6} {'faults':>6}  caught by")
    missed = 0
    with ProcessPoolExecutor(told.jobs) as pool:
        for caught in pool.map(_find, [one.name for one in chosen], [told.seeds] * len(chosen)):
            missed += caught.violation is None
            where = f"{caught.name:20} {caught.world:50} {caught.steps:6} {caught.faults:6}"
            print(f"{where}  {caught.violation or 'NOT CAUGHT'}"[:170], flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} breaks are caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
