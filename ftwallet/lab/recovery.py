"""Suite `recovery`: how long a killed node is away when it has a past, and how fast a log is replayed (`replay`).

The time runs from the SIGKILL until the node does its work again: a primary answers `GET /health` with 200, a backup is
in sync. Nothing else waits in between: the process is started again as soon as it is dead, as the supervisor does it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab import machine
from ftwallet.lab.filling import fill
from ftwallet.lab.pair import BACKUP, PRIMARY, ROLES, Pair, temporary_pair
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.processes import PYTHON, environment
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.replay import Replays, measure_replays, replay_grid
from ftwallet.lab.report import Grid, Report, document
from ftwallet.supervisor.processes import log_path

ASKED_S = 2.0
_RECOVERED = "Recovered to lsn"


class Found(NamedTuple):
    """All that was found. `seconds`: from each kill to ready, by role; `said`: of the last recovery, by role.

    `bare`: seconds that Python needs to start, to load what a node is made of, and to end, without doing anything.
    """

    seconds: dict[str, list[float]]
    bare: list[float]
    said: dict[str, str]
    replays: list[Replays]
    proof: Proof

    def ratio(self, role: str) -> float:
        """The time to ready, in bare starts."""
        return middle(self.seconds[role]) / middle(self.bare)


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    with temporary_pair(plan.directory, plan.settings) as pair:
        fill(plan, pair, plan.transactions)
        pair.agreed()
        seconds = {
            ROLES[PRIMARY]: _kills(plan, pair, PRIMARY, pair.wait_until_serving),
            ROLES[BACKUP]: _kills(plan, pair, BACKUP, pair.wait_until_backup_in_sync),
        }
        bare = [_bare_start() for _ in range(plan.kills)]
        said = {ROLES[node]: _last_recovery(pair, node) for node in ROLES}
        proof = prove(pair)
    return report_of(plan, Found(seconds, bare, said, measure_replays(plan), proof))


def _kills(plan: Plan, pair: Pair, node: str, wait: Callable[[], None]) -> list[float]:
    return [_seconds_away(pair, node, wait) for _ in range(plan.kills)]


def _seconds_away(pair: Pair, node: str, wait: Callable[[], None]) -> float:
    began = time.monotonic()
    pair.kill(node)
    wait()
    passed = time.monotonic() - began
    pair.wait_until_in_sync()
    progress(f"The {ROLES[node]} was ready again after {passed:.3f} s")
    return passed


def _bare_start() -> float:
    began = time.monotonic()
    command = [PYTHON, "-P", "-c", "import ftwallet.node.process"]
    ended = subprocess.run(command, env=environment(), check=False)
    if ended.returncode != 0:
        raise Refused(f"Python could not load a node's modules (exit code {ended.returncode})")
    return time.monotonic() - began


def _last_recovery(pair: Pair, node: str) -> str:
    """Return what the node itself said of its last recovery; empty when its log level hides it."""
    lines = log_path(pair.config.data_dir, node).read_text(errors="replace").splitlines()
    return next((str(json.loads(line)["event"]) for line in reversed(lines) if _RECOVERED in line), "")


def report_of(plan: Plan, found: Found) -> Report:
    """Put the report together."""
    facts = machine.facts(plan.directory, plan.wrk)
    settings = {"transactions": plan.transactions, "kills": plan.kills, "records": plan.records}
    nodes: dict[str, Any] = {
        role: {
            "ready_after_s": [round(one, 4) for one in times],
            "median_s": round(middle(times), 4),
            "ratio": round(found.ratio(role), 2),
            "met": middle(times) < ASKED_S,
            "said": found.said[role],
        }
        for role, times in found.seconds.items()
    }
    return Report(
        document(
            "recovery",
            facts,
            settings,
            asked_s=ASKED_S,
            nodes=nodes,
            bare_start_s=round(middle(found.bare), 4),
            replay=[one.document() for one in found.replays],
            verified=found.proof.document(),
        ),
        [_grid(plan, found), replay_grid(plan, found.replays)],
        [
            *(f"Last recovery of the {role}: {line}" for role, line in found.said.items() if line),
            found.proof.sentence(),
        ],
        found.proof.ok,
    )


def _grid(plan: Plan, found: Found) -> Grid:
    rows = [
        [role, *_three(times), f"{found.ratio(role):.2f}", _verdict(times)] for role, times in found.seconds.items()
    ]
    rows.append(["none: a bare start of Python", *_three(found.bare), "", ""])
    title = f"From SIGKILL to ready with {plan.transactions:,} past transactions, {plan.kills} kills of each node"
    return Grid(title, ("killed", "median", "least", "most", "ratio", f"asked: under {ASKED_S:.0f} s"), rows)


def _three(times: list[float]) -> list[str]:
    return [f"{figure:.3f} s" for figure in (middle(times), min(times), max(times))]


def _verdict(times: list[float]) -> str:
    return "met" if middle(times) < ASKED_S else "NOT MET"
