"""Log lines: for a person in a terminal, JSON where a machine reads. Everything goes through structlog."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
from collections.abc import Iterator
from typing import Literal

import structlog

_silent = contextvars.ContextVar("silent", default=False)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Write no lines of this context, nor of the tasks that are begun in it."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def _unless_silent(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if _silent.get():
        raise structlog.DropEvent
    return event


_SHARED: list[structlog.types.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def configure(level: str, form: Literal["auto", "text", "json"], **bound: str) -> None:
    """Set up this process's log on standard output; `bound` (role, node) stands in every JSON line."""
    json = form == "json" or (form == "auto" and not sys.stdout.isatty())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=0, pad_level=False)
    )
    structlog.configure(
        processors=[_unless_silent, structlog.contextvars.merge_contextvars, *_SHARED, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    if json:
        structlog.contextvars.bind_contextvars(**bound)
    # Libraries (uvicorn, grpc, asyncio) speak through the standard library; only their warnings are of interest.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stdout)
