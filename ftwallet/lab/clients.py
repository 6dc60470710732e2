"""The load of suite `failover`: keep-alive connections that deposit, and retry the same id until it is answered.

It runs in a process of its own, so that neither the bench nor a node takes part in what it measures. Each connection
has its own account, and pauses between two deposits: a steady load, not as much as the machine can do.

`python -m ftwallet.lab.clients PORT CONNECTIONS FILE PID` runs until SIGTERM, then lets every deposit under way come to
its answer, and ends; every attempt is a line of FILE. It ends with its parent PID.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Final, TextIO

import uvloop

from ftwallet import platform
from ftwallet.lab.attempts import ANSWERED, REFUSED, Attempt, account_id, transaction_id
from ftwallet.lab.processes import HOST
from ftwallet.lab.scripts import AMOUNT_MINOR

PAUSE_S: Final = 0.01
"""Between an answer and the connection's next deposit."""

LAST_ANSWERS_S: Final = 30.0
"""How long deposits under way are retried after SIGTERM."""

_PAUSE_AFTER_ERROR_S: Final = 0.002
_ANSWER_WITHIN_S: Final = 10.0
_AMOUNT: Final = f"{AMOUNT_MINOR // 100}.{AMOUNT_MINOR % 100:02d}"


class Clients:
    """All connections of one load."""

    def __init__(self, port: int, notes: TextIO) -> None:
        self._port = port
        self._notes = notes
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no further deposit."""
        self._stopping.set()

    async def run(self, connections: int) -> None:
        """Load until told to stop, and until all that was begun is answered, for `LAST_ANSWERS_S` at most."""
        running = [asyncio.ensure_future(self._connection(number)) for number in range(connections)]
        await self._stopping.wait()
        _, unanswered = await asyncio.wait(running, timeout=LAST_ANSWERS_S)
        for task in unanswered:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _connection(self, connection: int) -> None:
        line = _Line(self._port)
        number = 0
        while not self._stopping.is_set():
            number += 1
            while await self._attempt(line, connection, number) != ANSWERED:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            await asyncio.sleep(PAUSE_S)
        line.hang_up()

    async def _attempt(self, line: _Line, connection: int, number: int) -> str:
        began = time.monotonic()
        outcome = await line.ask(_request(connection, number))
        self._notes.write(Attempt(began, time.monotonic(), connection, number, outcome).line())
        return outcome


class _Line:
    """One keep-alive connection; after anything but a 200 it is made anew."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> str:
        """Send a request and return its outcome in one word."""
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                status, keep = await self._exchange(request)
        except TimeoutError:
            outcome, keep = "timeout", False
        except ConnectionRefusedError:
            outcome, keep = REFUSED, False
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            outcome, keep = _word(error), False
        else:
            outcome = status
        if not keep or outcome != ANSWERED:
            self.hang_up()
        return outcome

    def hang_up(self) -> None:
        """Close it, if it is open."""
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    async def _exchange(self, request: bytes) -> tuple[str, bool]:
        if self._open is None:
            self._open = await asyncio.open_connection(HOST, self._port)
        reader, writer = self._open
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        return head[0].split(" ")[1], headers.get("connection") != "close"


def _word(error: Exception) -> str:
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    return "cut-off" if isinstance(error, asyncio.IncompleteReadError) else type(error).__name__


def _request(connection: int, number: int) -> bytes:
    body = (
        f'{{"account_id":"{account_id(connection)}","amount":{_AMOUNT},'
        f'"transaction_id":"{transaction_id(connection, number)}"}}'
    )
    return (
        f"POST /deposit HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def _load(port: int, connections: int, notes: TextIO) -> None:
    clients = Clients(port, notes)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, clients.stop)
    await clients.run(connections)


def main() -> None:
    """Load as the command line says."""
    port, connections, file, parent_pid = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    platform.die_with_parent(parent_pid)
    with file.open("w", buffering=1 << 16) as notes:
        uvloop.run(_load(port, connections, notes))


if __name__ == "__main__":
    main()
