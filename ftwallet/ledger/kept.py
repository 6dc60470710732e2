"""What rules read and change: a dictionary, or one over another whose changes may not come to be."""

from __future__ import annotations

from typing import Protocol, TypeVar

Value = TypeVar("Value")


class Kept(Protocol[Value]):
    """Values by their keys."""

    def get(self, key: str, /) -> Value | None:
        """The value of a key, None when there is none."""

    def __getitem__(self, key: str, /) -> Value:
        """The value of a key that is there."""

    def __setitem__(self, key: str, value: Value, /) -> None:
        """Put a value."""
