"""The armed crash: which transaction it waits for, where it strikes, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from signal import Signals

import pytest

from ftwallet.faults.crash import FILE_NAME, Crash, forget_crash, read_crash
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage


@pytest.fixture
def strikes() -> list[Signals]:
    """The signals that would have been sent."""
    return []


@pytest.fixture
def injector(tmp_path: Path, strikes: list[Signals]) -> Injector:
    return Injector(tmp_path, strike=strikes.append, now_us=lambda: 1_795_000_000_000_000)


def test_unarmed_nothing_happens(injector: Injector, strikes: list[Signals], tmp_path: Path) -> None:
    injector.saw_new("t1")
    for stage in Stage:
        injector.reached(stage, ["t1"])
    assert not injector.armed
    assert not strikes
    assert read_crash(tmp_path) is None


def test_the_first_new_transaction_is_the_target_by_default(injector: Injector, strikes: list[Signals]) -> None:
    injector.arm(Stage.PENDING)
    assert injector.armed
    injector.saw_new("t1")
    injector.saw_new("t2")
    assert injector.target == "t1"
    injector.reached(Stage.RECEIVED, ["t1"])
    injector.reached(Stage.PENDING, ["t2"])
    assert not strikes
    injector.reached(Stage.PENDING, ["t2", "t1"])
    assert strikes == [signal.SIGKILL]


def test_the_third_new_transaction_counts_from_arming(injector: Injector, strikes: list[Signals]) -> None:
    injector.saw_new("before")
    injector.arm(Stage.SYNCED, after=3)
    for transaction_id in ("t1", "t2", "t3", "t4"):
        injector.saw_new(transaction_id)
    injector.reached(Stage.SYNCED, ["t1", "t2", "t4"])
    assert not strikes
    injector.reached(Stage.SYNCED, {"t3": None})
    assert len(strikes) == 1


def test_it_strikes_once_even_when_the_process_survives(injector: Injector, strikes: list[Signals]) -> None:
    injector.arm(Stage.EXECUTED, signal=signal.SIGSTOP)
    injector.saw_new("t1")
    injector.reached(Stage.EXECUTED, ["t1"])
    injector.reached(Stage.EXECUTED, ["t1"])
    injector.saw_new("t2")
    injector.reached(Stage.EXECUTED, ["t2"])
    assert strikes == [signal.SIGSTOP]
    assert not injector.armed


def test_the_note_says_what_struck_where(injector: Injector, tmp_path: Path) -> None:
    injector.arm(Stage.PENDING)
    injector.saw_new("t1")
    injector.reached(Stage.PENDING, (name for name in ("t0", "t1", "t2")), first_lsn=41)
    assert read_crash(tmp_path) == Crash(
        stage=Stage.PENDING,
        transaction_id="t1",
        lsn=42,
        signal=signal.SIGKILL,
        pid=os.getpid(),
        time_us=1_795_000_000_000_000,
    )
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_before_the_log_there_is_no_lsn(injector: Injector, tmp_path: Path) -> None:
    injector.arm(Stage.RECEIVED)
    injector.saw_new("t1")
    injector.reached(Stage.RECEIVED, ["t1"])
    crash = read_crash(tmp_path)
    assert crash is not None
    assert crash.lsn is None


def test_the_note_is_there_before_the_signal(tmp_path: Path) -> None:
    seen: list[Crash | None] = []
    injector = Injector(tmp_path, strike=lambda _: seen.append(read_crash(tmp_path)))
    injector.arm(Stage.ACKED)
    injector.saw_new("t1")
    injector.reached(Stage.ACKED, ["t1"])
    assert seen[0] is not None


def test_it_strikes_where_no_note_can_be_written(tmp_path: Path, strikes: list[Signals]) -> None:
    injector = Injector(tmp_path / "gone", strike=strikes.append)
    injector.arm(Stage.PENDING)
    injector.saw_new("t1")
    injector.reached(Stage.PENDING, ["t1"])
    assert len(strikes) == 1


def test_arming_removes_an_old_note_and_an_old_target(injector: Injector, tmp_path: Path) -> None:
    injector.arm(Stage.PENDING)
    injector.saw_new("t1")
    injector.reached(Stage.PENDING, ["t1"])
    injector.arm(Stage.SYNCED)
    assert read_crash(tmp_path) is None
    assert injector.target is None


def test_disarmed_it_never_strikes(injector: Injector, strikes: list[Signals]) -> None:
    injector.arm(Stage.PENDING)
    injector.saw_new("t1")
    injector.disarm()
    injector.reached(Stage.PENDING, ["t1"])
    assert not injector.armed
    assert not strikes


def test_a_count_below_one_is_refused_and_arms_nothing(injector: Injector) -> None:
    with pytest.raises(ValueError, match="not for number 0"):
        injector.arm(Stage.PENDING, after=0)
    assert not injector.armed


def test_a_note_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('{"stage": "lunch"}')
    with pytest.raises(ValueError, match="lunch"):
        read_crash(tmp_path)
    forget_crash(tmp_path)
    forget_crash(tmp_path)
    assert read_crash(tmp_path) is None


_CRASH_AT_COMMITTED = """
import sys
from pathlib import Path
from ftwallet.faults.injector import Injector
from ftwallet.faults.stages import Stage

injector = Injector(Path(sys.argv[1]))
injector.arm(Stage.COMMITTED)
injector.saw_new("t1")
try:
    injector.reached(Stage.COMMITTED, ["t1"])
finally:
    print("cleaned up")
"""


def test_the_real_strike_is_a_sigkill_that_no_cleanup_survives(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", _CRASH_AT_COMMITTED, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.returncode == -signal.SIGKILL
    assert child.stdout == b""
    crash = read_crash(tmp_path)
    assert crash is not None
    assert crash.signal == signal.SIGKILL


def test_stages_are_those_of_the_contract_in_order() -> None:
    assert " ".join(PRIMARY_STAGES) == "received pending synced executed committed replied"
    assert " ".join(BACKUP_STAGES) == "received pending executed acked"
    assert {*PRIMARY_STAGES, *BACKUP_STAGES} == set(Stage)
