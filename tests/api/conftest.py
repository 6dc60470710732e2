"""A wallet, and the REST application over it."""

from __future__ import annotations

import pytest
from starlette.types import ASGIApp

from ftwallet.api.app import build_app
from tests.api.cases import MAX_BODY
from tests.api.stand_ins import MemoryWallet


@pytest.fixture
def wallet() -> MemoryWallet:
    return MemoryWallet()


@pytest.fixture
def app(wallet: MemoryWallet) -> ASGIApp:
    return build_app(wallet, max_body_bytes=MAX_BODY)
