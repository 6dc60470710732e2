"""The time that a primary gives its records: the wall clock's, and never before what the log has already.

A wall clock may be behind the log, because it was set back, or because the primary before had one that was ahead. Then
the log's time goes on at half its speed: so what is to expire does expire, and the wall clock gets level in the end.
"""

from __future__ import annotations

import time
from typing import Final

_MICROSECONDS: Final = 1_000_000
_SLOWER: Final = 2


class LogClock:
    """Microseconds since 1970 UTC; `newest_us` is the newest time that the log has."""

    def __init__(self, newest_us: int) -> None:
        self._newest_us = newest_us
        self._behind_since: tuple[float, int] | None = None  # by the monotonic clock, and the time of the log then

    def now_us(self) -> int:
        """The time now."""
        wall_us = time.time_ns() // 1_000
        if wall_us > self._newest_us:
            self._newest_us, self._behind_since = wall_us, None
        else:
            self._newest_us = self._go_on()
        return self._newest_us

    def _go_on(self) -> int:
        now = time.monotonic()
        if self._behind_since is None:
            self._behind_since = now, self._newest_us
        since, began_us = self._behind_since
        return max(self._newest_us, began_us + int((now - since) * _MICROSECONDS) // _SLOWER)
