from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.errors import ExitCode
from ftwallet.supervisor.policy import Death, GiveUp, Limits, Restart, Stay, after_death, backoff, describe

LIMITS = Limits(backoff_s=0.5, backoff_max_s=30.0, crash_loop_deaths=5)
KILLED = -signal.SIGKILL


def test_a_node_that_had_been_ready_is_started_at_once_however_often_it_is_killed() -> None:
    early = 4
    for _ in range(100):
        verdict = after_death(Death(KILLED, had_been_ready=True, asked=False), early, LIMITS, 0.9)
        assert verdict == Restart(0.0, 0)


def test_C10_deaths_before_ready_wait_longer_each_time_and_end_in_failed() -> None:
    early, delays = 0, []
    for _ in range(4):
        verdict = after_death(Death(1, had_been_ready=False, asked=False), early, LIMITS, 0.0)
        assert isinstance(verdict, Restart)
        early = verdict.early_deaths
        delays.append(verdict.delay_s)
    assert delays == [0.25, 0.5, 1.0, 2.0]
    last = after_death(Death(1, had_been_ready=False, asked=False, sentence="no disk"), early, LIMITS, 0.0)
    assert last == GiveUp("it died 5 times in a row before it was ready, the last time: exit code 1 (failed): no disk")


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_has_jitter_and_a_maximum(deaths: int, jitter: float) -> None:
    pause = backoff(deaths, LIMITS, jitter)
    assert LIMITS.backoff_s / 2 <= pause <= LIMITS.backoff_max_s
    assert backoff(deaths, LIMITS, 0.0) <= pause


@pytest.mark.parametrize("code", [ExitCode.CORRUPTION, ExitCode.WRONG_DIRECTORY, ExitCode.BROKEN_INVARIANT])
@pytest.mark.parametrize("ready", [True, False])
def test_what_another_start_cannot_mend_is_given_up_with_the_nodes_sentence(code: int, ready: bool) -> None:
    assert after_death(Death(code, ready, False, "byte 7 is bad"), 0, LIMITS, 0.5) == GiveUp("byte 7 is bad")


def test_a_disk_fault_waits_even_when_the_node_had_been_ready() -> None:
    verdict = after_death(Death(ExitCode.DISK_FAULT, True, False), 0, LIMITS, 0.0)
    assert verdict == Restart(0.25, 1)


def test_I3_a_taken_port_is_tried_again_for_ever() -> None:
    verdict = after_death(Death(ExitCode.PORT_TAKEN, False, False), 1_000, LIMITS, 0.0)
    assert verdict == Restart(15.0, 1_001)


@pytest.mark.parametrize("code", [0, KILLED, ExitCode.CORRUPTION])
def test_what_was_stopped_on_purpose_stays_so(code: int) -> None:
    assert after_death(Death(code, True, asked=True), 0, LIMITS, 0.5) == Stay()


def test_exit_codes_in_words() -> None:
    assert describe(KILLED) == "killed by SIGKILL"
    assert describe(71) == "exit code 71 (corruption)"
    assert describe(-200) == "killed by signal 200"
    assert describe(99) == "exit code 99"
