"""Breadth-first search through every state of the model: the first broken one is at the end of a shortest history."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from tests.model.protocol import Bounds, State, broken, start, steps


class Found(NamedTuple):
    """`why` is empty when every invariant holds; `whole` says whether all states were visited."""

    states: int
    why: str = ""
    history: tuple[str, ...] = ()
    whole: bool = True

    @property
    def invariant(self) -> str:
        """The name of the broken invariant."""
        return self.why.partition(":")[0]


def search(bound: Bounds, off: str = "", limit: int = 5_000_000) -> Found:
    """Visit every state within `bound`, at most `limit`, with the rule `off` left out."""
    first = start()
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    queue = deque([first])
    while queue:
        state = queue.popleft()
        for what, after in steps(state, bound, off):
            if after in came_from:
                continue
            came_from[after] = (state, what)
            why = broken(after, bound, off)
            if why:
                return Found(len(came_from), why, _history(came_from, after))
            if len(came_from) >= limit:
                return Found(len(came_from), whole=False)
            queue.append(after)
    return Found(len(came_from))


def _history(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    told: list[str] = []
    while before := came_from[state]:
        state, what = before
        told.append(what)
    return tuple(reversed(told))
