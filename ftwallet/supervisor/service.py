"""Whether clients are served, and how long they were not. Pure: times are given by the caller, in monotonic seconds."""

from __future__ import annotations

from typing import NamedTuple


class Resumed(NamedTuple):
    """Service began, after `gap_s` seconds without it; `first` when there had been none before."""

    gap_s: float
    first: bool


class Service:
    """Follows one boolean, "the primary serves", from the supervisor's start on."""

    def __init__(self, now: float) -> None:
        self._down_since: float | None = now
        self._noticed_at = now
        self._served_before = False
        self.last_gap_s = 0.0
        self.outages = 0

    def noticed_s(self, now: float) -> float:
        """Seconds since it was noticed that there is no service, 0 while there is."""
        return 0.0 if self._down_since is None else now - self._noticed_at

    def observe(self, serving: bool, now: float, silent_s: float = 0.0) -> Resumed | None:
        """Take in what was seen; returns a value at the moment when service begins.

        `silent_s` says for how long nobody had served already when it was noticed (a hang).
        """
        if not serving:
            if self._down_since is None:
                self._down_since, self._noticed_at = now - silent_s, now
                self.outages += 1
            return None
        if self._down_since is None:
            return None
        resumed = Resumed(now - self._down_since, not self._served_before)
        self.last_gap_s = resumed.gap_s
        self._down_since, self._served_before = None, True
        return resumed
