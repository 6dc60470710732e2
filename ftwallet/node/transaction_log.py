"""Log lines of single transactions while there are few, and one line a second when there are many.

Under load a log that names each transaction would grow by gigabytes a day and tell nobody anything.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import structlog

_LINES_A_SECOND = 20


class TransactionLog:
    """`said` says what happened to transactions: each by its id, or how many within the last second."""

    def __init__(self, sentence: str, plural: str) -> None:
        self._log = structlog.get_logger()
        self._sentence = sentence
        self._plural = plural
        self._second = 0
        self._left = _LINES_A_SECOND
        self._silent = 0

    def said(self, transaction_ids: Iterable[str], count: int) -> None:
        """These `count` transactions have come this far."""
        self._turn_second()
        if count > self._left:
            self._left = 0
            self._silent += count
            return
        self._left -= count
        for transaction_id in filter(None, transaction_ids):  # a record of the node's own has none
            self._log.info(f"{self._sentence} {transaction_id}")

    def _turn_second(self) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._left = 0 if self._silent > _LINES_A_SECOND else _LINES_A_SECOND
            self.flush()

    def flush(self) -> None:
        """Say how many were not said one by one."""
        if self._silent:
            self._log.info(f"{self._plural}: {self._silent:,} more")
            self._silent = 0
