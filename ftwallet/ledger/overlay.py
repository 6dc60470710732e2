"""Changes that may not come to be: kept beside what they change, and put there in one go, or dropped."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")


class Kept(Protocol[Value]):
    """What an Overlay lies over: a dictionary, or another Overlay."""

    def get(self, key: str, /) -> Value | None:
        """The value of a key, None when there is none."""

    def __getitem__(self, key: str, /) -> Value:
        """The value of a key that is there."""

    def __setitem__(self, key: str, value: Value, /) -> None:
        """Put a value."""


class Overlay(Generic[Value]):
    """Reads through to what lies below; `keep` puts what was changed there."""

    __slots__ = ("_below", "_changed")

    def __init__(self, below: Kept[Value]) -> None:
        self._below = below
        self._changed: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        """The value of a key, None when there is none."""
        value = self._changed.get(key)
        return self._below.get(key) if value is None else value

    def __getitem__(self, key: str) -> Value:
        return self._changed[key] if key in self._changed else self._below[key]

    def __setitem__(self, key: str, value: Value) -> None:
        self._changed[key] = value

    def keep(self) -> None:
        """Change what lies below."""
        below = self._below
        for key, value in self._changed.items():
            below[key] = value
