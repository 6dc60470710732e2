"""An asyncio event loop in which time is a number: nothing sleeps, nothing runs in a thread, every run is the same.

Every callback belongs to a process of the simulated world, by a context variable that tasks inherit. A dead process's
callbacks never run again; a paused one's wait until it goes on. That is all that SIGKILL and SIGSTOP are.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any


class Killed(BaseException):
    """The process that runs this is gone; nothing may catch it."""


class Stuck(AssertionError):
    """Nothing is left that could ever happen."""


class Process:
    """One life of one program: `name` is a node, or `supervisor`, or `client`."""

    def __init__(self, name: str, disk: Any = None) -> None:
        self.name = name
        self.disk = disk
        self.dead = False
        self.paused = False
        self.waiting: deque[Callable[[], object]] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def die(self) -> None:
        self.dead = True
        self.waiting.clear()

    def go_on(self) -> None:
        """After SIGCONT: what became due meanwhile runs now, in order."""
        self.paused = False
        while self.waiting and not self.dead and not self.paused:
            self.waiting.popleft()()


WORLD = Process.__new__(Process)  # what belongs to nobody
WORLD.name, WORLD.dead, WORLD.paused, WORLD.disk, WORLD.tasks = "world", False, False, None, []
PROCESS: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=WORLD)


class SimExecutor:
    """Stands for a ThreadPoolExecutor of one thread: jobs in order, each some simulated time after the one before."""

    def __init__(self, max_workers: int = 1, thread_name_prefix: str = "") -> None:
        self.jobs: deque[Callable[[], None]] = deque()

    def submit(self, work: Callable[..., Any], *args: Any) -> Any:
        """At once, after all that was asked before."""
        self.shutdown()
        future: Any = _Done()
        future.value = work(*args)
        return future

    def run_next(self) -> None:
        if self.jobs:
            self.jobs.popleft()()

    def shutdown(self, wait: bool = True) -> None:
        while self.jobs:
            self.jobs.popleft()()


class _Done:
    value: Any = None

    def result(self) -> Any:
        return self.value


class SimLoop(asyncio.BaseEventLoop):
    """`latency(process)` draws how many seconds a job of a process's disk or thread takes."""

    def __init__(self, random: Random, latency: Callable[[Process, float], float]) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self
        self._clock_resolution = 1e-9
        self._random = random
        self._latency = latency
        self.steps = 0
        self.set_task_factory(_own_task)
        self.set_exception_handler(lambda loop, context: None)

    # ---- What a selector would do

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        self.steps += 1
        if timeout is None:
            raise Stuck("nothing is left that could happen")
        self._now += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # ---- Callbacks belong to processes

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        process = (context or contextvars.copy_context()).get(PROCESS, WORLD)
        return super().call_soon(_guarded, process, callback, args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        process = (context or contextvars.copy_context()).get(PROCESS, WORLD)
        return super().call_at(when, _guarded, process, callback, args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    call_soon_threadsafe = call_soon

    # ---- Threads

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            try:
                value = func(*args)
            except Exception as error:
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(value)

        process = PROCESS.get()
        if executor is None:
            self.call_later(self._latency(process, self._now), work)
            return future
        if not isinstance(executor, SimExecutor):
            raise TypeError("a real thread has no place in a simulated world")
        executor.jobs.append(work)
        free_at = max(getattr(executor, "free_at", 0.0), self._now) + self._latency(process, self._now)
        executor.free_at = free_at  # type: ignore[attr-defined]
        self.call_at(free_at, executor.run_next)
        return future

    def dispose(self, processes: list[Process]) -> None:
        """Take apart what is left; whatever its `finally` blocks do happens to nobody."""
        for process in processes:
            process.die()
            for task in process.tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(BaseException):
                        task.get_coro().close()  # type: ignore[union-attr]
                elif not task.cancelled():
                    task.exception()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()


def _guarded(process: Process, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if process.dead:
        return
    if process.paused:
        context = contextvars.copy_context()
        process.waiting.append(lambda: context.run(_guarded, process, callback, args))
        return
    try:
        callback(*args)
    except Killed:
        if not process.dead:
            raise


def _own_task(loop: asyncio.AbstractEventLoop, coro: Any, context: Any = None) -> asyncio.Task[Any]:
    task = asyncio.Task(coro, loop=loop) if context is None else asyncio.Task(coro, loop=loop, context=context)
    process = (context or contextvars.copy_context()).get(PROCESS, WORLD)
    process.tasks.append(task)
    if len(process.tasks) > 400:
        process.tasks = [one for one in process.tasks if not one.done()]
    return task


__all__ = ["PROCESS", "WORLD", "Killed", "Process", "SimExecutor", "SimLoop", "Stuck"]
