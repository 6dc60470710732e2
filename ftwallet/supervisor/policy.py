"""What to do about a death: a pure function of what was seen, of now, and of a jitter that the caller drew.

A node that had been ready is started again at once, however often it is killed. One that dies before it is ready waits
longer each time, up to a maximum, and is given up after `crash_loop_deaths` such deaths in a row. What another start
cannot mend (corruption, a wrong directory, a broken invariant) is given up at once, with the node's own sentence.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from ftwallet.errors import ExitCode

_BEYOND_A_RESTART = frozenset(
    {ExitCode.CORRUPTION, ExitCode.WRONG_DIRECTORY, ExitCode.BROKEN_INVARIANT, ExitCode.USAGE}
)
_WAITS_HOWEVER_LIVED = frozenset({ExitCode.DISK_FAULT, ExitCode.PORT_TAKEN, ExitCode.FENCED})
_SMALLEST_SHARE = 0.5  # of the backoff; jitter spreads the rest, so that two nodes do not start in step


class Limits(NamedTuple):
    """Seconds of the first pause and of the longest; deaths before ready in a row that end the trying."""

    backoff_s: float
    backoff_max_s: float
    crash_loop_deaths: int


class Death(NamedTuple):
    """`code` as `subprocess` gives it: negative for a signal. `asked`: an orderly stop was asked for, not a restart."""

    code: int
    had_been_ready: bool
    asked: bool
    sentence: str = ""


class Restart(NamedTuple):
    """Start it again after `delay_s` seconds; `early_deaths` is the new count of deaths before ready in a row."""

    delay_s: float
    early_deaths: int


class Stay(NamedTuple):
    """It was stopped on purpose and stays so."""


class GiveUp(NamedTuple):
    """It is not started again until somebody asks; `reason` is a sentence for `status`."""

    reason: str


Verdict = Restart | Stay | GiveUp


def after_death(death: Death, early_deaths: int, limits: Limits, jitter: float) -> Verdict:
    """Return what to do. `early_deaths` counts those before this one; `jitter` is drawn from [0, 1)."""
    if death.asked:
        return Stay()
    if death.code in _BEYOND_A_RESTART:
        return GiveUp(death.sentence or describe(death.code))
    if death.had_been_ready and death.code not in _WAITS_HOWEVER_LIVED:
        return Restart(0.0, 0)
    deaths = 1 if death.had_been_ready else early_deaths + 1
    if deaths >= limits.crash_loop_deaths and death.code != ExitCode.PORT_TAKEN:  # whoever has the port may go
        return GiveUp(f"it died {deaths} times in a row before it was ready, the last time: {_last_words(death)}")
    return Restart(backoff(deaths, limits, jitter), deaths)


def backoff(deaths: int, limits: Limits, jitter: float) -> float:
    """Return the pause in seconds before the start that follows the N-th death in a row, 1 for the first."""
    doublings = min(deaths - 1, 32)  # beyond it the number alone would overflow, the maximum has long been reached
    longest = min(limits.backoff_max_s, limits.backoff_s * 2.0**doublings)
    return float(longest * (_SMALLEST_SHARE + (1 - _SMALLEST_SHARE) * jitter))


def describe(code: int) -> str:
    """Return an exit code in words, such as "killed by SIGKILL" or "exit code 71 (corruption)"."""
    if code < 0:
        return f"killed by {signal_name(-code)}"
    try:
        return f"exit code {code} ({ExitCode(code).name.lower().replace('_', ' ')})"
    except ValueError:
        return f"exit code {code}"


def signal_name(number: int) -> str:
    """Return a signal's name, or "signal 77" where it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(death: Death) -> str:
    return f"{describe(death.code)}: {death.sentence}" if death.sentence else describe(death.code)
