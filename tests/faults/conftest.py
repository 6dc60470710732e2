"""One pair for the tests of a module, healed and checked after each; a new one for those that need their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import psutil
import pytest

from tests.faults.checker import Client, check
from tests.faults.harness import Pair, running_pair, temporary_root
from tests.faults.link import Link
from tests.faults.supervised import Supervised


class _Shared:
    """The module's pair; dropped when a test has failed with it, since nobody knows in what state it is then."""

    def __init__(self, running: Callable[[], AbstractContextManager[Pair]]) -> None:
        self._running = running
        self._stack = ExitStack()
        self._client: Client | None = None

    def get(self) -> Client:
        if self._client is None:
            self._client = Client(self._stack.enter_context(self._running()))
        return self._client

    def drop(self) -> None:
        self._client = None
        self._stack.close()


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[_Shared]:
    """A module's own kind of pair is what its `running` makes."""
    shared = _Shared(getattr(request.module, "running", running_pair))
    yield shared
    shared.drop()


@pytest.fixture
def client(shared: _Shared, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a paired pair; after the test it is healed and every invariant checked."""
    client = shared.get()
    yield client
    try:
        if request.node.stash.get(_passed, False):
            check(client)
            if isinstance(client.pair, Supervised):
                client.pair.agree()
        else:
            shared.drop()
    except BaseException:
        shared.drop()
        raise


@pytest.fixture
def pair(client: Client) -> Pair:
    return client.pair


@pytest.fixture
def cluster(client: Client) -> Supervised:
    """The pair of a module whose `running` makes supervised ones; a link is between primary and backup."""
    cluster = client.pair
    assert isinstance(cluster, Supervised)
    if cluster.link is not None:
        cluster.lead_over_the_link()
    assert client.deposit().durability == "replicated"
    return cluster


@pytest.fixture
def link(cluster: Supervised) -> Link:
    assert cluster.link is not None
    return cluster.link


@pytest.fixture
def new_root() -> Iterator[Callable[[], Path]]:
    """Make short temporary directories that end with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(temporary_root())


@pytest.fixture(scope="session", autouse=True)
def _no_orphans() -> Iterator[None]:
    yield
    left = [child for child in psutil.Process().children(recursive=True) if "ftwallet" in " ".join(child.cmdline())]
    assert not left, f"processes were left behind: {left}"


_passed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[_passed] = report.passed
    return report
