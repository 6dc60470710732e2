"""`ftwallet-run up`: a supervisor in this terminal, or one of its own (`-d`)."""

from __future__ import annotations

import asyncio
import os
import time

import rich_click as click

from ftwallet.cli import detach
from ftwallet.cli.options import load_settings, settings
from ftwallet.cli.tail import Tail
from ftwallet.cli.terminal import complain, say
from ftwallet.config import Config
from ftwallet.errors import ExitCode, Refused
from ftwallet.supervisor.client import NoSupervisor, SupervisorClient
from ftwallet.supervisor.documents import http_url
from ftwallet.supervisor.loop import Supervisor
from ftwallet.supervisor.processes import SUPERVISOR_LOG, log_path
from ftwallet.supervisor.run import run
from ftwallet.supervisor.sentences import cut_short_sentence
from ftwallet.supervisor.startup import AlreadyRunning
from ftwallet.witness.bootstrap import NODES

_ANSWERS_WITHIN_S = 3.0  # of a supervisor that has the data directory and may be starting still


@click.command()
@click.option(
    "-d", "--detach", "detached", is_flag=True, help="Run in the background; returns when paired and serving."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds until paired and serving [30].")
@click.option("--detached-child", is_flag=True, hidden=True)
@settings
def up(detached: bool, timeout: float | None, detached_child: bool) -> None:
    """Start both nodes and keep them running: restarts what dies, answers the other commands.

    In the foreground it shows what the processes say; Ctrl-C stops them in order, a second one at once. With -d it
    exits 0 when paired and serving, or 1 after the time-out, leaving nothing running.
    """
    config = load_settings()
    limit_s = timeout or config.start_timeout_s
    exit_code = ExitCode.OK
    if detached_child:
        exit_code = _background(config)
    elif not _up_already(config):
        exit_code = detach.up(config, limit_s) if detached else _foreground(config, limit_s)
    raise SystemExit(exit_code)


def _up_already(config: Config) -> bool:
    try:
        with SupervisorClient(config.data_dir) as supervisor:
            document = supervisor.status()
    except NoSupervisor:
        return False
    standing = document["mode"] or "not serving yet"
    say(f"FT-Wallet is up already: supervisor pid {document['supervisor']['pid']}, {standing}, {http_url(config)}")
    return True


def _background(config: Config) -> ExitCode:
    def leave_the_caller() -> None:
        """From now on there is nobody to tell but the log; the caller's pipe is closed with it."""
        log = os.open(log_path(config.data_dir, SUPERVISOR_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    return run(config, leave_the_caller, lambda supervisor: None)


def _foreground(config: Config, limit_s: float) -> ExitCode:
    session = _Foreground(config, limit_s)
    try:
        return session.run()
    except AlreadyRunning as refusal:  # it was just starting when we looked
        give_up = time.monotonic() + _ANSWERS_WITHIN_S
        while time.monotonic() < give_up:
            if _up_already(config):
                return ExitCode.OK
            time.sleep(0.1)
        raise Refused(f"{refusal} and does not answer: stop it with `kill {refusal.pid}`") from None


class _Foreground:
    """A supervisor with its terminal."""

    def __init__(self, config: Config, limit_s: float) -> None:
        self._config = config
        self._limit_s = limit_s
        self._supervisor: Supervisor | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._tail: Tail | None = None

    def run(self) -> ExitCode:
        try:
            code = run(self._config, self._show_logs, self._begin)
        finally:
            read_to_the_end = self._tail is None or self._tail.finish()
        if not read_to_the_end:
            os._exit(code)  # Python would wait at its exit for the thread that waits for the terminal
        if code is ExitCode.INTERRUPTED and self._supervisor is not None:
            complain(f"stopped at once: {cut_short_sentence(self._supervisor.cut_short)}")
        return code

    def _show_logs(self) -> None:
        names = (*NODES, SUPERVISOR_LOG)
        self._tail = Tail({name: log_path(self._config.data_dir, name) for name in names}, self._label)
        self._tail.start()

    def _label(self, name: str) -> str:
        if self._supervisor is None or name not in self._supervisor.slots:
            return name
        return self._supervisor.fleet.role(self._supervisor.slots[name])

    def _begin(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._greeting = asyncio.ensure_future(self._greet(supervisor))

    async def _greet(self, supervisor: Supervisor) -> None:
        """Say it as an event, which the tail shows: a terminal that is not read must not block this loop."""
        config = self._config
        if await supervisor.until(lambda: supervisor.paired, self._limit_s):
            grpc = f"{config.grpc_host}:{config.primary_grpc_port}"
            supervisor.events.record("up", f"FT-Wallet is up: {http_url(config)}, gRPC {grpc}; Ctrl-C stops it")
        elif not supervisor.stopping:
            state = supervisor.mode or "not serving"
            sentence = (
                f"FT-Wallet is {state} after {self._limit_s:g} s and keeps trying; `ftwallet-run events` tells why"
            )
            supervisor.events.record("not-up", sentence)
