"""The warm-up: real requests against a scratch ledger, of which nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
import uvloop

from ftwallet.api.app import Application
from ftwallet.config import Config
from ftwallet.ledger.operations import Kind
from ftwallet.node import logs, warmup
from ftwallet.node.primary import PrimaryNode
from ftwallet.wallet import NO_WALLET, Wallet


class Watched(Application):
    """Remembers which wallets it served, and how many requests."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Wallet] = []
        self.requests = 0

    def serve(self, wallet: Wallet) -> None:
        self.served.append(wallet)
        super().serve(wallet)

    async def answer(self, hot, path, headers, body):  # type: ignore[no-untyped-def]
        self.requests += 1
        return await super().answer(hot, path, headers, body)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        self.requests += 1
        await super().__call__(scope, receive, send)


def test_requests_go_through_the_whole_path_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("info", "text")
    application = Watched()
    ledgers = []
    real = PrimaryNode.abandon

    async def abandon(node: PrimaryNode) -> None:
        ledgers.append(node.ledger)
        await real(node)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrimaryNode, "abandon", abandon)
        uvloop.run(warmup.warm_up(application, Config(data_dir=tmp_path / "d"), tmp_path))
    assert application.requests == 161
    (ledger,) = ledgers
    assert ledger.balance("warm") is not None, "nothing was executed"
    found = ledger.find("w0")
    assert found is None or found.kind is Kind.WITHDRAW
    assert application.served[-1] is NO_WALLET
    assert list(tmp_path.iterdir()) == [], "the scratch ledger is left"
    assert capsys.readouterr().out == "", "the log speaks of a ledger that is not the user's"
    structlog.reset_defaults()


async def test_a_warm_up_that_fails_costs_nothing_but_the_warmth(tmp_path: Path) -> None:
    (tmp_path / "warm-up").write_text("a file where the directory should be")
    application = Watched()
    await warmup.warm_up(application, Config(data_dir=tmp_path / "d"), tmp_path)
    assert application.served[-1] is NO_WALLET
