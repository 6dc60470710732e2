"""Suite `memory`: what a node holds after many answered requests, against what its ledger needs for so many ids.

The ledger's own figure comes from a process that holds the same transactions in a ledger and nothing else. What a node
holds beyond that would be a leak: of requests, of batches, of whatever was under way.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, NamedTuple

from ftwallet.config import MEBIBYTE
from ftwallet.errors import Refused
from ftwallet.lab import machine
from ftwallet.lab.filling import fill
from ftwallet.lab.pair import PRIMARY, ROLES, Pair, temporary_pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.processes import anonymous_bytes, environment
from ftwallet.lab.proof import Proof, prove
from ftwallet.lab.report import Grid, Report, document

ALLOWED_RATIO = 1.25
"""A node may hold so many times what the ledger alone does: the allocator does not give back every hole."""

_FIRST = 20_000
_SETTLING_S = 5.0
_LOOK_EVERY_S = 0.25


class Growth(NamedTuple):
    """Anonymous memory of one process in bytes, before and after it took `ids` transactions more."""

    before: int
    after: int
    ids: int

    @property
    def bytes_an_id(self) -> float:
        """What it holds more, by id."""
        return (self.after - self.before) / self.ids


def measure(plan: Plan) -> Report:
    """Run the suite. Raises Refused when something cannot be measured."""
    with temporary_pair(plan.directory, plan.settings) as pair:
        # Buffers of connections and streams come with the first load, and stay: they are no matter of past ids.
        first, before = _filled(plan, pair, min(_FIRST, plan.transactions))
        last, after = _filled(plan, pair, plan.transactions)
        alone = _ledger_alone(first, last - first)
        progress("Verifying both journals")
        proof = prove(pair)
    growths = {role: Growth(before[role], after[role], last - first) for role in before}
    return _report(plan, growths, alone, proof)


def _filled(plan: Plan, pair: Pair, deposits: int) -> tuple[int, dict[str, int]]:
    """Fill the pair, and return the lsn that it stands at and the memory that each node then holds, by role."""
    fill(plan, pair, deposits)
    lsn = pair.agreed()[PRIMARY].applied_lsn
    return lsn, _resting(pair)


def _resting(pair: Pair) -> dict[str, int]:
    """Return the memory of each node, by role, when it has let go of what it only needed meanwhile."""
    give_up_at = time.monotonic() + _SETTLING_S
    least = _now(pair)
    while time.monotonic() < give_up_at:
        time.sleep(_LOOK_EVERY_S)
        least = {role: min(held, least[role]) for role, held in _now(pair).items()}
    return least


def _now(pair: Pair) -> dict[str, int]:
    return {role: anonymous_bytes(pair.nodes[node].pid) for node, role in ROLES.items()}


def _ledger_alone(first: int, ids: int) -> Growth:
    progress(f"Filling a ledger alone with {ids:,} deposits")
    command = [sys.executable, "-P", "-m", "ftwallet.lab.ledger_memory", str(first), str(ids)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if ended.returncode != 0:
        raise Refused(f"the ledger alone could not be filled: {ended.stderr.strip()[-200:]}")
    before, after = map(int, ended.stdout.split())
    return Growth(before, after, ids)


def _report(plan: Plan, growths: dict[str, Growth], alone: Growth, proof: Proof) -> Report:
    facts = machine.facts(plan.directory, plan.wrk)
    nodes = {role: _node_document(growth, alone) for role, growth in growths.items()}
    found = {"nodes": nodes, "ledger_bytes_an_id": round(alone.bytes_an_id, 1), "allowed_ratio": ALLOWED_RATIO}
    rows = [_row(role, growth, alone) for role, growth in growths.items()]
    rows.append(_row("a ledger alone", alone, alone)[:4] + [""] * 2)
    columns = ("process", "before", "after", "bytes an id", "of the ledger's", f"at most {ALLOWED_RATIO}")
    return Report(
        document("memory", facts, {"transactions": plan.transactions}, **found, verified=proof.document()),
        [Grid(f"Anonymous memory before and after {alone.ids:,} deposits", columns, rows)],
        [proof.sentence()],
        proof.ok,
    )


def _node_document(growth: Growth, alone: Growth) -> dict[str, Any]:
    ratio = growth.bytes_an_id / alone.bytes_an_id
    return {
        "anonymous_bytes_before": growth.before,
        "anonymous_bytes_after": growth.after,
        "bytes_an_id": round(growth.bytes_an_id, 1),
        "ratio": round(ratio, 3),
        "met": ratio <= ALLOWED_RATIO,
    }


def _row(name: str, growth: Growth, alone: Growth) -> list[str]:
    ratio = growth.bytes_an_id / alone.bytes_an_id
    held = [f"{held / MEBIBYTE:.1f} MiB" for held in (growth.before, growth.after)]
    return [name, *held, f"{growth.bytes_an_id:.0f}", f"{ratio:.2f}", "met" if ratio <= ALLOWED_RATIO else "NOT MET"]
