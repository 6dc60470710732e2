"""Rules of the shipped code broken on purpose, one at a time, and for each the test that must fail.

    python -m tests.faults.breaks [NAME ...]

runs those tests against broken nodes and says which breaks were caught; exit code 1 if one was not. A break is made in
the node's process by `broken_node.py`, which the harness starts when the variable BREAK names one.

A skipped sync cannot be seen by killing a process, because the kernel's page cache survives it: those breaks are caught
by the system calls (test_syncs.py), and in the journal's own tests by a disk that loses what was not synced.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.harness import BREAK_VARIABLE, PROJECT


class Break(NamedTuple):
    """`rule` is what is not done any more; `test` must fail, and say `because`."""

    rule: str
    test: str
    because: str


class Verdict(NamedTuple):
    """Whether the test failed for the reason that it must, and what pytest said."""

    caught: bool
    output: str


_CRASHES, _DISK, _PLACES = "test_crashes.py", "test_disk.py", "test_directories.py"
_STATE_SYNC, _TRANSFERS = "test_state_sync.py", "test_transfers.py"
_HOLDS = "test_holds.py"
_SYNCS, _CLIENTS, _INPUT = "test_syncs.py", "test_clients.py", "test_bad_input.py"

BREAKS = {
    "answer-before-ack": Break(
        "an answer waits for the backup's ack",
        f"{_CRASHES}::test_C3_primary_dies_after_the_backup_executed_and_before_its_ack",
        "assert Answer(status=200",
    ),
    "solo-without-witness": Break(
        "the witness records in_sync = itself before a primary answers alone",
        f"{_CRASHES}::test_O1_primary_that_answered_alone_dies_and_the_backup_returns_first",
        "assert 'replicated' == 'solo'",
    ),
    "roll-back-pending": Break(
        "what the backup has of a PENDING tail is rolled forward",
        f"{_CRASHES}::test_C4_primary_dies_after_the_ack[synced]",
        "Rolled back by recovery",
    ),
    "cut-below-commit": Break(
        "a primary does not cut what was committed",
        f"{_PLACES}::test_I1_old_copy_of_the_backup_directory_from_the_same_start",
        "not within 20.0 s: both logs are the same length",
    ),
    "any-incarnation": Break(
        "an emptied directory is not taken for the node that it was",
        f"{_PLACES}::test_I1_backup_directory_emptied_while_both_are_down",
        "assert 'came back with another data directory' in",
    ),
    "old-epochs": Break(
        "a message of an older epoch is refused",
        f"{_PLACES}::test_I1_old_copy_of_everything_meets_a_living_backup",
        "not within 20.0 s: the backup refuses it",
    ),
    "other-clusters": Break(
        "a node of another cluster is refused",
        f"{_PLACES}::test_I2_backup_of_another_cluster_answers_on_the_port",
        "not within 20.0 s: the primary's log names both clusters",
    ),
    "old-copies": Break(
        "an old copy of a directory is not in sync",
        f"{_PLACES}::test_I1_old_copy_of_the_backup_directory",
        "assert 'old copy' in",
    ),
    "keep-incarnation": Break(
        "a state sync takes a new incarnation first",
        f"{_STATE_SYNC}::test_C7_backup_dies_in_the_middle_of_a_state_sync",
        "assert identity.state_sync",
    ),
    "no-state-sync": Break(
        "a backup that is far behind is sent a checkpoint",
        f"{_STATE_SYNC}::test_I1_emptied_directory_is_rebuilt_by_a_state_sync",
        "assert 1 > 20",
    ),
    "ack-before-sync": Break(
        "the backup acks what is durable",
        f"{_SYNCS}::test_an_answer_waits_for_a_sync_of_the_journal_on_both_nodes",
        "answered without a sync on b",
    ),
    "send-before-sync": Break(
        "the backup is sent what is durable on the primary",
        f"{_SYNCS}::test_an_answer_waits_for_a_sync_of_the_journal_on_both_nodes",
        "without a sync on a",
    ),
    "no-sync": Break(
        "what is durable was synced",
        f"{_SYNCS}::test_an_answer_waits_for_a_sync_of_the_journal_on_both_nodes",
        "answered without a sync on a: []",
    ),
    "no-quarantine": Break(
        "what is cut has a copy in quarantine",
        f"{_CRASHES}::test_C2_primary_dies_at_pending",
        "assert 0 == 1",
    ),
    "cut-damage": Break(
        "only what a torn write can leave is cut",
        f"{_DISK}::test_D4_primary_with_a_flipped_bit_does_not_start_and_cuts_nothing",
        "assert 1 == <ExitCode.CORRUPTION",
    ),
    "checkpoint-checksum": Break(
        "a checkpoint is whole before it is used",
        f"{_DISK}::test_D7_checkpoint_missing_or_corrupt[_flip_middle]",
        'assert ("is passed over" in',
    ),
    "trim-unheld": Break(
        "a record stays in the log until a store and a checkpoint have it",
        "test_trimming.py::test_C8_what_neither_store_nor_checkpoint_has_is_not_trimmed",
        "DID NOT RAISE",
    ),
    "forget-part": Break(
        "a state sync that is broken off is gone on with",
        f"{_STATE_SYNC}::test_C7_backup_dies_in_the_middle_of_a_state_sync",
        "assert 0 >=",
    ),
    "forget-rollbacks": Break(
        "ROLLED_BACK goes on record",
        f"{_CRASHES}::test_C2_primary_dies_at_pending",
        "not within 20.0 s: b has the record",
    ),
    "no-lock": Break(
        "one process on a directory",
        f"{_PLACES}::test_I3_second_process_on_one_directory[b-backup]",
        "assert 75 == <ExitCode.WRONG_DIRECTORY",
    ),
    "no-dedup": Break(
        "an id that is done is replayed",
        f"{_CLIENTS}::test_K2_the_same_body_written_otherwise[1.50]",
        "assert (200,",
    ),
    "execute-twice": Break(
        "an id moves money once",
        f"{_CRASHES}::test_C4_primary_dies_after_the_ack[replied]",
        "has two answers",
    ),
    "no-fingerprint": Break(
        "an id with another body is refused",
        f"{_CLIENTS}::test_K2_one_id_with_another_body[deposit-user123-1.51-amount]",
        "assert 200 == 422",
    ),
    "legs-stay": Break(
        "a transfer of which one leg is refused moves nothing",
        f"{_TRANSFERS}::test_C4_a_transfer_that_is_refused_stays_refused[synced]",
        "AssertionError: the primary says",
    ),
    "no-look": Break(
        "a primary looks for holds that are due when it begins to serve",
        f"{_HOLDS}::test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_an_expiry[a-received]",
        "s: it has expired",
    ),
    "no-body-limit": Break(
        "a body over the limit is refused before it is parsed",
        f"{_INPUT}::test_A2_body_over_the_limit",
        "413",
    ),
}


def run(name: str) -> Verdict:
    """Run the test of a break against broken nodes."""
    broken = BREAKS[name]
    file, _, function = broken.test.partition("::")
    test = f"{Path(__file__).with_name(file)}::{function}"
    command = [sys.executable, "-m", "pytest", "-vv", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, test],
        cwd=PROJECT,
        # One process runs one test: with workers, -x ends a run with another exit code than that of a failed test.
        env=os.environ | {"CAMPAIGN": "full", BREAK_VARIABLE: name, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = (done.returncode == 1 and " failed" in done.stdout) or " error" in done.stdout
    return Verdict(failed and broken.because in done.stdout, done.stdout + done.stderr)


def main(names: Sequence[str]) -> int:
    missed = 0
    for name in names or BREAKS:
        broken, verdict = BREAKS[name], run(name)
        missed += not verdict.caught
        print(
            f"{'caught' if verdict.caught else 'MISSED'}  {name}: without “{broken.rule}”, by {broken.test}", flush=True
        )
        if not verdict.caught:
            print(verdict.output)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
