"""Search the protocol of the pair for a history in which money is lost.

python -m tests.model                         # within the bounds of the options: "holds", or the shortest history
python -m tests.model --break RULE            # the same with one rule left out, in bounds that are known to show it
python -m tests.model --list                  # the rules that can be left out
python -m tests.model --breaks                # all of them, as a table
"""

from __future__ import annotations

import argparse
import sys

from tests.model.breaks import BREAKS
from tests.model.protocol import Bounds
from tests.model.search import Found, search


def main(arguments: list[str]) -> int:
    """Return 1 when an invariant falls in the protocol as it is, or stands without the rule that is left out."""
    options = _parser().parse_args(arguments)
    if options.list:
        for one in BREAKS:
            print(f"{one.name:20} without: {one.rule}")
        return 0
    if options.breaks:
        return _table()
    given = {name: value for name, value in vars(options).items() if name in Bounds._fields and value is not None}
    broken = next((one for one in BREAKS if one.name == options.off), None)
    bound = (broken.bound if broken else Bounds())._replace(**given)
    found = search(bound, options.off, options.states)
    _tell(found, bound)
    return int(bool(found.why) != bool(options.off))


def _parser() -> argparse.ArgumentParser:
    assert __doc__
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__.splitlines()[0])
    for name, default in Bounds()._asdict().items():
        parser.add_argument(f"--{name}", type=int, metavar="N", help=f"{default} unless told")
    parser.add_argument("--states", type=int, default=5_000_000, metavar="N", help="stop there; 5000000 unless told")
    parser.add_argument("--break", dest="off", default="", choices=["", *(one.name for one in BREAKS)], metavar="RULE")
    parser.add_argument("--list", action="store_true", help="the rules that --break leaves out")
    parser.add_argument("--breaks", action="store_true", help="leave out each in turn and print a table")
    return parser


def _tell(found: Found, bound: Bounds) -> None:
    within = ", ".join(f"{name} {value}" for name, value in bound._asdict().items() if value)
    if not found.why:
        part = "all" if found.whole else "the first"
        print(f"holds in {part} {found.states:,} states within {within}")
        return
    print(f"BROKEN after {len(found.history)} steps, {found.states:,} states: {found.why}")
    for number, what in enumerate(found.history, 1):
        print(f"{number:4}. {what}")


def _table() -> int:
    print(f"{'rule left out':20} {'invariant':11} {'states':>8} {'steps':>5}")
    unfound = 0
    for one in BREAKS:
        found = search(one.bound, one.name)
        unfound += found.invariant != one.invariant
        print(
            f"{one.name:20} {found.invariant or 'none falls':11} {found.states:8,} {len(found.history):5}", flush=True
        )
    return int(unfound > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
