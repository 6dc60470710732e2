"""What clients noted of a load, attempt by attempt, and what a failover looked like to them.

Times are of the monotonic clock, which all processes of one machine share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

ANSWERED = "200"
REFUSED = "refused"

WATCHED_S = 2.0
"""How long after its first answer a failover is watched for another silence."""


class Attempt(NamedTuple):
    """One request of one connection's N-th deposit; `outcome` is the status of the answer, or how the wire failed."""

    began_s: float
    ended_s: float
    connection: int
    number: int
    outcome: str

    def line(self) -> str:
        """Return it as it is written to a file."""
        return f"{self.began_s:.6f} {self.ended_s:.6f} {self.connection} {self.number} {self.outcome}\n"


class Kill(NamedTuple):
    """One primary that was ended: the moments before and after the signal was sent, and when the pair was whole."""

    node: str
    before_s: float
    after_s: float
    paired_s: float


class Seen(NamedTuple):
    """One kill as the clients saw it: until the first answer to anybody, and until everybody had one.

    None where no answer followed.
    """

    first_ms: float | None
    all_ms: float | None
    silence_ms: float | None
    errors: Counter[str]


def transaction_id(connection: int, number: int) -> str:
    """Return the id of a connection's N-th deposit; all attempts at it have the same."""
    return f"failover-{connection}-{number}"


def account_id(connection: int) -> str:
    """Return the account that a connection deposits to, which is its own."""
    return f"failover-{connection}"


def parse(lines: Iterable[str]) -> list[Attempt]:
    """Read what was written; a last line that was cut short by the end of its writer is left out."""
    found = []
    for line in lines:
        began, ended, connection, number, outcome = line.split()
        if line.endswith("\n"):
            found.append(Attempt(float(began), float(ended), int(connection), int(number), outcome))
    return found


class Attempts:
    """All attempts of a load, ordered by their ends."""

    def __init__(self, attempts: Iterable[Attempt]) -> None:
        self.all = sorted(attempts, key=lambda attempt: attempt.ended_s)
        self._ends = [attempt.ended_s for attempt in self.all]
        self._answers = [attempt for attempt in self.all if attempt.outcome == ANSWERED]
        self._answer_ends = [attempt.ended_s for attempt in self._answers]

    @property
    def errors(self) -> Counter[str]:
        """How often each outcome came that was not an answer."""
        return _errors(self.all)

    @property
    def usual_ms(self) -> float:
        """The median time to an answer of all attempts that were answered; 0 when none was."""
        return 1000 * median(one.ended_s - one.began_s for one in self._answers) if self._answers else 0.0

    def answered(self) -> dict[int, set[int]]:
        """Return the numbers of the deposits that were answered, by connection."""
        numbers: dict[int, set[int]] = {}
        for attempt in self._answers:
            numbers.setdefault(attempt.connection, set()).add(attempt.number)
        return numbers

    def asked(self) -> set[str]:
        """Return the ids of all deposits that were asked for, answered or not."""
        return {transaction_id(attempt.connection, attempt.number) for attempt in self.all}

    def seen(self, kill: Kill, until_s: float) -> Seen:
        """Say how a kill looked; what ended after `until_s` belongs to the next one."""
        first = self._first_asked_after(kill.after_s)
        errors = _errors(self.all[bisect_right(self._ends, kill.before_s) : bisect_right(self._ends, until_s)])
        if first is None:
            return Seen(None, None, None, errors)
        last = self._everybody_after(kill.after_s)
        everybody = None if last is None else 1000 * (last - kill.before_s)
        return Seen(1000 * (first - kill.before_s), everybody, 1000 * self._silence(first), errors)

    def _first_asked_after(self, moment_s: float) -> float | None:
        """Return when the first answer came to a request that was sent after a moment.

        An answer that only arrives after the kill may be one that the dead process had sent before: it proves nothing.
        """
        later = self._answers[bisect_right(self._answer_ends, moment_s) :]
        return next((attempt.ended_s for attempt in later if attempt.began_s >= moment_s), None)

    def _everybody_after(self, moment_s: float) -> float | None:
        """Return when the last of all connections had an answer to a request that it sent after a moment."""
        missing = {attempt.connection for attempt in self.all}
        for attempt in self._answers[bisect_right(self._answer_ends, moment_s) :]:
            if attempt.began_s >= moment_s:
                missing.discard(attempt.connection)
            if not missing:
                return attempt.ended_s
        return None

    def _silence(self, first_s: float) -> float:
        """Return the longest time without an answer that begins while it is watched, in seconds."""
        begin = bisect_right(self._answer_ends, first_s) - 1
        end = bisect_right(self._answer_ends, first_s + WATCHED_S)
        within: Sequence[float] = self._answer_ends[begin : end + 1]
        return max((later - earlier for earlier, later in pairwise(within)), default=WATCHED_S)


def _errors(attempts: Iterable[Attempt]) -> Counter[str]:
    return Counter(attempt.outcome for attempt in attempts if attempt.outcome != ANSWERED)
