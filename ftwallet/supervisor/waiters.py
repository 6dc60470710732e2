"""Those who wait until something is true of the pair; the loop has it looked at after every input."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Waiters:
    """Conditions, each with the future of who waits for it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[bool]]] = []

    async def until(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `true()`; False when the time is over before."""
        if true():
            return True
        seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiter = (true, seen)
        self._waiting.append(waiter)
        try:
            return await asyncio.wait_for(seen, timeout_s)
        except TimeoutError:
            return true()
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    def look(self) -> None:
        """Wake those whose condition holds now."""
        for true, seen in self._waiting:
            if seen.done():
                continue
            try:
                if true():
                    seen.set_result(True)
            except Exception as error:  # it belongs to whoever waits, not to the loop
                seen.set_exception(error)
