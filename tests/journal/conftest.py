"""Fixtures of the journal's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ftwallet import platform
from tests.journal.logs import close_logs


@pytest.fixture(autouse=True)
def _no_log_stays_open() -> Iterator[None]:
    yield
    close_logs()


@pytest.fixture
def no_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let syncs return at once, where a test opens hundreds of logs and no power is lost."""
    monkeypatch.setattr(platform, "fdatasync", lambda _: None)
    monkeypatch.setattr(platform, "fsync_directory", lambda _: None)
