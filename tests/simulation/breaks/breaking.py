"""How shipped code is broken, in this process alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from ftwallet import platform
from ftwallet.replication.register import Decision, Proposal, Register
from ftwallet.witness import file as witness_file
from tests.simulation.moments import Moment

Patch = contextlib.AbstractContextManager[Any]


class Break(NamedTuple):
    """`kinds`: of faults, in whose worlds it shows soonest; without any, in all. `hint`: a seed that has caught it.

    `moment`: a directed world, in the place of random ones.
    """

    name: str
    rule: str
    patch: Callable[[], Patch]
    kinds: tuple[str, ...] = ()
    hint: int = 0
    moment: Moment | None = None


def method(owner: Any, name: str, replace: Callable[[Any], Any]) -> Patch:
    return mock.patch.object(owner, name, replace(getattr(owner, name)))


@contextlib.contextmanager
def together(*patches: Patch) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def without(operation: str, *places: tuple[Any, str]) -> Callable[[], Patch]:
    """Leave out an operation of the disk while these functions run."""

    def left_out(whole: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> Any:
            with mock.patch.object(platform, operation, mock.Mock()):
                return whole(*args, **kwargs)

        return broken

    return lambda: together(*(method(owner, name, left_out) for owner, name in places))


def deciding(decide: Callable[[Register, Proposal], Decision]) -> Patch:
    return mock.patch.object(witness_file, "decide", decide)


def instead(owner: Any, name: str, new: Any) -> Callable[[], Patch]:
    return lambda: mock.patch.object(owner, name, new)
