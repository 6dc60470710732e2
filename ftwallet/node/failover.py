"""FailoverManager: watches the partner's health for the primary, and keeps a session with it.

A broken stream is noticed at once, a late ack by the protocol itself, a partner that is silent while nothing is under
way by `grpc.health.v1` every few seconds. After a loss it tries again until the backup is back.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from ftwallet.node.lead import Lead
from ftwallet.node.ports import Partner, SessionStream
from ftwallet.replication.messages import ToPrimary

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.1
_HEALTH_TIMEOUT_S = 1.0
_SILENCES_OF_A_LOST_CONNECTION = 3  # in a row; a refusal, or a backup that says that it does not serve, is none


class FailoverManager:
    """One session after the other, as long as `run` is not cancelled. `first_session`: greater than any before."""

    def __init__(self, partner: Partner, lead: Lead, *, health_interval_s: float, first_session: int) -> None:
        self._partner = partner
        self._lead = lead
        self._health_interval_s = health_interval_s
        self._session = first_session
        self._heard_at = 0.0
        self._said: list[str] = []
        self._log = structlog.get_logger()

    async def run(self) -> None:
        """Connect, watch, reconnect."""
        pause, silences = _FIRST_PAUSE_S, 0
        while True:
            asked_at = time.monotonic()
            if await self._partner.is_serving(_HEALTH_TIMEOUT_S):
                began = time.monotonic()
                silences = 0
                self._say(f"Connected to backup server at {self._partner.address}")
                self._say(f"Session with the backup ended: {await self._one_session()}")
                if time.monotonic() - began > _LONGEST_PAUSE_S:
                    pause = _FIRST_PAUSE_S
            else:
                self._say(f"Backup server at {self._partner.address} does not answer; trying again")
                silences = silences + 1 if time.monotonic() - asked_at > _HEALTH_TIMEOUT_S / 2 else 0
                if silences >= _SILENCES_OF_A_LOST_CONNECTION:  # keepalive does not end what only short calls use
                    silences = 0
                    await self._partner.reconnect()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _say(self, sentence: str) -> None:
        """Say it once, not at every try."""
        if sentence not in self._said[-2:]:
            self._log.info(sentence)
            self._said = [*self._said[-1:], sentence]

    async def _one_session(self) -> str:
        number, stream = self._session, self._partner.open_stream()
        self._session += 1
        self._heard_at = time.monotonic()
        watcher = asyncio.create_task(self._watch(stream))
        try:
            self._lead.session_opened(number, stream)
            reason = await stream.run(self._received)
        finally:
            watcher.cancel()
        self._lead.session_lost(number, reason)
        return reason

    def _received(self, message: ToPrimary) -> None:
        self._heard_at = time.monotonic()
        self._lead.received(message)

    async def _watch(self, stream: SessionStream) -> None:
        while True:
            await asyncio.sleep(self._health_interval_s)
            idle = time.monotonic() - self._heard_at >= self._health_interval_s
            if idle and not await self._partner.is_serving(_HEALTH_TIMEOUT_S):
                stream.end("the backup's health does not answer")
