"""One supervisor's life: ground, history, control socket, loop, and the tidy end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from ftwallet.config import Config
from ftwallet.errors import ExitCode
from ftwallet.rpc.sockets import SUPERVISOR_SOCKET
from ftwallet.supervisor import control
from ftwallet.supervisor.events import EVENTS_FILE, EventLog
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.processes import SUPERVISOR_LOG, Launch, log_path, node_launch
from ftwallet.supervisor.startup import Ground, prepare

_LAST_ANSWERS_S = 1.0


def run(
    config: Config,
    on_ground: Callable[[], None],
    on_running: Callable[[Supervisor], None],
    launch: Callable[[Config, int, str, str], Launch] = node_launch,
) -> ExitCode:
    """Run a supervisor until it is told to stop.

    `on_ground` is called when nothing stands in the way any more, `on_running` inside the event loop, before the first
    process is started; `launch` says how a node is started.

    Raises:
        Refused: it could not be started; nothing was changed.
    """
    ground = prepare(config)
    try:
        on_ground()
        return asyncio.run(_supervise(config, ground, on_running, launch))
    finally:
        ground.listener.close()
        ground.lock.release()


async def _supervise(
    config: Config,
    ground: Ground,
    on_running: Callable[[Supervisor], None],
    launch: Callable[[Config, int, str, str], Launch],
) -> ExitCode:
    history = config.data_dir / EVENTS_FILE
    events = EventLog(history, log_path(config.data_dir, SUPERVISOR_LOG), config.log_format)
    supervisor = Supervisor(config, ground.register, ground.listener, events, ground.witness, launch)
    for left_over in ground.ended:
        events.record("left-over-ended", f"A node that outlived its supervisor, pid {left_over.pid}, was ended")
    server = await control.serve(supervisor, ground.witness)
    events.record("supervisor-started", "The supervisor has started", cluster_id=ground.register.cluster_id)
    on_running(supervisor)
    try:
        return await supervisor.run()
    finally:
        await supervisor.end_all_at_once()
        await server.stop(_LAST_ANSWERS_S)
        events.record("supervisor-stopped", "The supervisor has stopped")
        events.close()
        _remove(config.data_dir / SUPERVISOR_SOCKET)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
