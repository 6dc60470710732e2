"""Where a node's time goes under load: py-spy looks at its stacks a few hundred times a second.

Only the thread that holds the interpreter's lock counts, as py-spy takes threads that wait in C for busy ones. So what
is missing of all looks is the time in which no Python ran: waiting for disks, the partner and clients.

py-spy (https://github.com/benfred/py-spy) is no dependency: `pip install py-spy` where it is wanted.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab.layers import LAYERS, layer_of
from ftwallet.lab.pair import ROLES, Pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.report import Grid
from ftwallet.lab.wrk import Order

CONNECTIONS = 64
WAITING = "waiting, no Python running"
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
    """The functions with the most time of their own, and samples by layer, of `samples` in which one ran Python."""

    samples: int
    shares: list[Share]
    layers: dict[str, int]


class Profiled(NamedTuple):
    """One role's profile, of so many `looks`, while the pair answered so many deposits a second."""

    role: str
    looks: int
    per_second: float
    profile: Profile

    def layers(self) -> dict[str, float]:
        """Percent of the time by layer, and of waiting."""
        times = {name: 100 * self.profile.layers.get(name, 0) / self.looks for name in LAYERS}
        return times | {WAITING: max(0.0, 100 - sum(times.values()))}

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        functions = [
            {"function": one.function, "own": round(one.own, 2), "total": round(one.total, 2)}
            for one in self.profile.shares
        ]
        return {
            "connections": CONNECTIONS,
            "requests_per_s": round(self.per_second, 1),
            "samples": self.profile.samples,
            "looks": self.looks,
            "layers_percent": {name: round(percent, 2) for name, percent in self.layers().items()},
            "functions": functions,
        }

    def grid(self) -> Grid:
        """Say which functions in a table."""
        rows = [[one.function, f"{one.own:.1f} %", f"{one.total:.1f} %"] for one in self.profile.shares[:_SHOWN]]
        title = (
            f"The {self.role} under {CONNECTIONS} connections, {self.profile.samples:,} samples of the thread that "
            "holds the GIL"
        )
        return Grid(title, ("function", "own", "with what it calls"), rows)


def find_py_spy() -> str:
    """Return the path of py-spy. Raises Refused with a sentence how to get it."""
    found = shutil.which("py-spy")
    if found is None:
        raise Refused("--profile needs py-spy, which is not on the PATH: pip install py-spy")
    return found


def profile_under_load(plan: Plan, pair: Pair) -> list[Profiled]:
    """Sample each node while deposits are put on the pair. Raises Refused when py-spy may not or cannot look."""
    return [_profile(plan, pair, node) for node in ROLES]


def _profile(plan: Plan, pair: Pair, node: str) -> Profiled:
    progress(f"Profiling the {ROLES[node]} for {_SECONDS} s under {CONNECTIONS} connections")
    stacks = plan.directory / f"stacks-{node}.txt"
    command = [find_py_spy(), "record", "--gil", "--rate", str(_RATE), "--duration", str(_SECONDS)]
    command += ["--pid", str(pair.nodes[node].pid), "--format", "raw", "--output", str(stacks)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watcher:
        load = pair.load(plan.wrk, Order(pair.port, CONNECTIONS, _SECONDS + _START_S)).load
        _, complaint = watcher.communicate(timeout=60)
    if watcher.returncode != 0:
        raise Refused(f"py-spy failed: {' '.join(complaint.split()) or 'it said nothing'}")
    return Profiled(ROLES[node], _RATE * _SECONDS, load.per_second, read(stacks))


def read(stacks: Path) -> Profile:
    """Read stacks as py-spy writes them (see `shares`)."""
    return shares(stacks.read_text().splitlines())


def shares(lines: Iterable[str]) -> Profile:
    """Add up stacks, one a line: `outermost;...;innermost COUNT`, each frame as `function (file:line)`."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
        layers[layer_of([_file(frame) for frame in frames])] += int(count)
    samples = own.total()
    order = sorted(total, key=lambda name: (-own[name], -total[name], name))
    functions = [Share(name, 100 * own[name] / samples, 100 * total[name] / samples) for name in order]
    return Profile(samples, functions, dict(layers))


def layers_grid(profiled: Sequence[Profiled]) -> Grid:
    """Where the time goes, by layer: of each role's time, and for each deposit."""
    columns = [name for one in profiled for name in (one.role, f"{one.role}, µs a deposit")]
    rows = []
    for name in (*LAYERS, WAITING):
        cells = []
        for one in profiled:
            percent = one.layers()[name]
            cells += [f"{percent:.1f} %", f"{percent * 1e4 / one.per_second:.1f}" if one.per_second else ""]
        rows.append([name, *cells])
    return Grid(f"Where the time goes under {CONNECTIONS} connections, by layer", ("layer", *columns), rows)


def _function(frame: str) -> str:
    """Leave out the line, so that one function is one function."""
    name, _, place = frame.rpartition(" (")
    return f"{name} ({place.rpartition(':')[0] or place.rstrip(')')})" if name else frame


def _file(function: str) -> str:
    """The file of a frame without its line."""
    return function.rpartition(" (")[2].rstrip(")")
