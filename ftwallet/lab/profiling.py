"""Where a primary's time goes under load: py-spy looks at its stack a few hundred times a second.

py-spy (https://github.com/benfred/py-spy) is no dependency: `pip install py-spy` where it is wanted.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab.pair import PRIMARY, Pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.report import Grid
from ftwallet.lab.wrk import Order

CONNECTIONS = 64
_SECONDS = 5
_RATE = 250
_START_S = 1
_SHOWN = 30


class Share(NamedTuple):
    """One function: percent of the samples in which it was running itself, and in which it was on the stack."""

    function: str
    own: float
    total: float


class Profile(NamedTuple):
    """The functions with the most time of their own, of `samples` in which one ran Python."""

    samples: int
    shares: list[Share]

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        shares = [
            {"function": one.function, "own": round(one.own, 2), "total": round(one.total, 2)} for one in self.shares
        ]
        return {"connections": CONNECTIONS, "samples": self.samples, "functions": shares}

    def grid(self) -> Grid:
        """Say it in a table."""
        rows = [[one.function, f"{one.own:.1f} %", f"{one.total:.1f} %"] for one in self.shares[:_SHOWN]]
        title = (
            f"The primary under {CONNECTIONS} connections, {self.samples:,} samples of the thread that holds the GIL"
        )
        return Grid(title, ("function", "own", "with what it calls"), rows)


def find_py_spy() -> str:
    """Return the path of py-spy. Raises Refused with a sentence how to get it."""
    found = shutil.which("py-spy")
    if found is None:
        raise Refused("--profile needs py-spy, which is not on the PATH: pip install py-spy")
    return found


def profile_under_load(plan: Plan, pair: Pair) -> Profile:
    """Sample the primary while deposits are put on it. Raises Refused when py-spy may not or cannot look."""
    progress(f"Profiling the primary for {_SECONDS} s under {CONNECTIONS} connections")
    stacks = plan.directory / "stacks.txt"
    # Only who holds the interpreter's lock: py-spy takes threads that wait in C for busy ones.
    command = [find_py_spy(), "record", "--gil", "--rate", str(_RATE), "--duration", str(_SECONDS)]
    command += ["--pid", str(pair.nodes[PRIMARY].pid), "--format", "raw", "--output", str(stacks)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watcher:
        pair.load(plan.wrk, Order(pair.port, CONNECTIONS, _SECONDS + _START_S))
        _, complaint = watcher.communicate(timeout=60)
    if watcher.returncode != 0:
        raise Refused(f"py-spy failed: {' '.join(complaint.split()) or 'it said nothing'}")
    return read(stacks)


def read(stacks: Path) -> Profile:
    """Read stacks as py-spy writes them (see `shares`)."""
    return shares(stacks.read_text().splitlines())


def shares(lines: Iterable[str]) -> Profile:
    """Add up stacks, one a line: `outermost;...;innermost COUNT`, each frame as `function (file:line)`."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    samples = own.total()
    order = sorted(total, key=lambda name: (-own[name], -total[name], name))
    return Profile(samples, [Share(name, 100 * own[name] / samples, 100 * total[name] / samples) for name in order])


def _function(frame: str) -> str:
    """Leave out the line, so that one function is one function."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})" if name else frame
