"""Loads and facts made up for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftwallet.config import Config
from ftwallet.lab.pair import Measured
from ftwallet.lab.plan import Plan
from ftwallet.lab.wrk import Errors, Load

FACTS: dict[str, Any] = {
    "cores": 2,
    "kernel": "Linux 6.1",
    "python": "3.11.9",
    "filesystem": "ext4",
    "wrk": "4.1.0",
    "version": "0.1.0",
    "commit": None,
}


def load(requests: int, p50_ms: float = 1.0, errors: Errors | None = None) -> Load:
    return Load(requests, requests, requests, 1.0, p50_ms, 2 * p50_ms, errors or Errors(), 10.0)


def raw(requests: int) -> Measured:
    return Measured(load(requests), {"server": 90.0})


def deposits(requests: int, p50_ms: float = 1.0, errors: Errors | None = None) -> Measured:
    return Measured(load(requests, p50_ms, errors), {"backup": 40.0, "primary": 80.0})


def plan(directory: Path) -> Plan:
    return Plan("wrk", directory, Config(), seconds=1, rounds=3)
