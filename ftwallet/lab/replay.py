"""The second part of suite `recovery`: how many records a second a start replays, when nothing but the log holds them.

The log is made in bulk by the nodes' own code, once in the blocks that a busy pair makes of single deposits and once in
those that it makes of batches. Each is replayed by the code of a start, in a process of its own, for either `state`;
what counts is the ratio to reading, checking and decoding the same blocks alone, in turn with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftwallet.config import MEBIBYTE
from ftwallet.errors import Refused
from ftwallet.lab.plan import Plan, middle, progress
from ftwallet.lab.preload import preload_log
from ftwallet.lab.processes import PYTHON, environment
from ftwallet.lab.replaying import DECODE, Took
from ftwallet.lab.report import Grid

ASKED_PER_S = 1_000_000
BLOCKS = (1_024, 64)
STATES = ("memory", "disk")
_ROUNDS = 3
_RECORDS_AN_ACCOUNT = 10


class Replays(NamedTuple):
    """One size of blocks; what each round took, by `state`, and that of reading and decoding alone."""

    block: int
    took: dict[str, Sequence[Took]]

    def per_second(self, how: str) -> float:
        """Records a second, the median of the rounds."""
        return middle([one.records / one.seconds for one in self.took[how]])

    def ratio(self, state: str) -> float:
        """Records a second, as a share of reading and decoding alone."""
        return self.per_second(state) / self.per_second(DECODE)

    def held(self, how: str) -> int:
        """Anonymous memory that the process held more afterwards, in bytes."""
        return round(middle([one.anonymous_bytes for one in self.took[how]]))

    def document(self) -> dict[str, Any]:
        """Say it to a program."""
        states: dict[str, Any] = {
            state: {
                "records_per_s": round(self.per_second(state)),
                "ratio": round(self.ratio(state), 3),
                "anonymous_bytes": self.held(state),
                "met": self.per_second(state) >= ASKED_PER_S,
            }
            for state in STATES
        }
        return {"block": self.block, "decode_records_per_s": round(self.per_second(DECODE)), **states}

    def rows(self) -> list[list[str]]:
        """Say it in a table."""
        rows = [[f"{self.block:,}", "read and decode alone", f"{self.per_second(DECODE):,.0f}", "", "", ""]]
        for state in STATES:
            verdict = "met" if self.per_second(state) >= ASKED_PER_S else "NOT MET"
            figures = [f"{self.per_second(state):,.0f}", f"{self.ratio(state):.2f}"]
            rows.append(["", f'state = "{state}"', *figures, f"{self.held(state) / MEBIBYTE:,.0f} MiB", verdict])
        return rows


def measure_replays(plan: Plan) -> list[Replays]:
    """Measure each size of blocks. Raises Refused when a replay fails, or two of one log do not come to the same."""
    return [_measure(plan, block) for block in BLOCKS]


def _measure(plan: Plan, block: int) -> Replays:
    directory = plan.directory / f"replay-{block}"
    node_dir = preload_log(directory, plan.records, max(1, plan.records // _RECORDS_AN_ACCOUNT), block)
    took: dict[str, list[Took]] = {how: [] for how in (DECODE, *STATES)}
    for number in range(1, _ROUNDS + 1):
        for how, rounds in took.items():
            rounds.append(_in_a_process(how, node_dir))
        rates = ", ".join(f"{how} {rounds[-1].records / rounds[-1].seconds:,.0f}/s" for how, rounds in took.items())
        progress(f"Blocks of {block:,}, round {number} of {_ROUNDS}: {rates}")
    shutil.rmtree(directory)
    _refuse_differences(plan.records, took)
    return Replays(block, dict(took))


def _in_a_process(how: str, node_dir: Path) -> Took:
    shutil.rmtree(node_dir / "store", ignore_errors=True)  # what the round before has left is no replay
    command = [PYTHON, "-P", "-m", "ftwallet.lab.replaying", how, str(node_dir), str(os.getpid())]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if ended.returncode != 0:
        raise Refused(f"the log could not be replayed ({how}): {ended.stderr.strip()[-300:]}")
    return Took(**json.loads(ended.stdout))


def _refuse_differences(records: int, took: dict[str, list[Took]]) -> None:
    for how, rounds in took.items():
        if any(one.records != records for one in rounds):
            raise Refused(f"not all {records:,} records were read ({how}): {rounds}")
    digests = {one.digest for state in STATES for one in took[state]}
    if len(digests) != 1:
        raise Refused(f"replays of one log came to different digests: {sorted(digests)}")


def replay_grid(plan: Plan, found: Sequence[Replays]) -> Grid:
    """All sizes of blocks in one table."""
    title = (
        f"Replay of {plan.records:,} deposits by the code of a start, each in a process of its own "
        f"({_ROUNDS} rounds in turn, medians; memory: what it held more afterwards)"
    )
    columns = ("records a block", "what", "records/s", "ratio", "memory", f"asked: {ASKED_PER_S:,}/s")
    return Grid(title, columns, [row for one in found for row in one.rows()])
