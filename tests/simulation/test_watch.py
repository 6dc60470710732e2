"""What is watched while a world runs: each rule broken on purpose, and noticed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ftwallet.node import primary
from ftwallet.node.service import Settings
from tests.simulation import runner
from tests.simulation.plan import Plan
from tests.simulation.scene import scene

CROWDED = Plan(1, "promote", 1, 0.4, 4.0, (), crowd=300)


def test_a_crowd_waits_or_is_sent_away() -> None:
    assert runner.run(CROWDED).violation is None


def test_a_queue_without_a_bound_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def boundless(**settings: Any) -> Settings:
        return Settings(**(settings | {"max_queue": 10_000}))

    monkeypatch.setattr(primary, "Settings", boundless)
    assert str(runner.run(CROWDED).violation).startswith("bounds: node a has ")


def test_an_epoch_that_goes_back_is_noticed() -> None:
    with scene() as world:
        world.until_paired()
        world.run(0.5)
        running = world.node("backup").node
        assert running is not None
        identity = running._disk.identity
        identity._content = msgspec.structs.replace(identity._content, epoch=0)
        with pytest.raises(AssertionError, match="epochs: node b is back at epoch 0 after 1"):
            world.run(1.0)


def test_two_nodes_that_serve_are_noticed() -> None:
    with scene() as world:
        world.until_paired()
        world.deposit("ann", 100)
        world.node("backup").wallet = world.node("primary").wallet
        with pytest.raises(AssertionError, match="one writer: nodes a and b both serve"):
            world.run(1.0)


def test_nodes_in_sync_that_differ_are_noticed() -> None:
    with scene() as world:
        world.until_paired()
        world.deposit("ann", 100)
        running = world.node("backup").node
        assert running is not None
        running.ledger._standing = running.ledger._standing._replace(digest=b"another")
        with pytest.raises(AssertionError, match="digests: the nodes are in sync and differ at lsn 1"):
            world.run(1.0)
