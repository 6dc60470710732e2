"""PostgreSQL as a careful operator would run it for money: a primary and one synchronous standby, in a directory.

Every commit waits until the standby has it on disk (`synchronous_commit = on` with `synchronous_standby_names`), fsync
and full page writes are on. Both servers listen on unix sockets alone, so they take no port. They are made by `initdb`
and `pg_basebackup`, belong to an unprivileged user when we are root, and end with the bench, whatever ends it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ftwallet.errors import Refused
from ftwallet.lab import processes
from ftwallet.lab.peer.schema import SCHEMA
from ftwallet.supervisor.processes import Child, Launch

DATABASE = "postgres"
USER = "wallet"
PRIMARY_PORT, STANDBY_PORT = 5432, 5433
"""Names of sockets in the directory, not ports of the machine."""

_MODULE = "ftwallet.lab.peer.as_user"
_PROGRAMS = ("initdb", "pg_basebackup", "postgres", "psql")
_DEBIAN = Path("/usr/lib/postgresql")
_LONGEST_SOCKET_PATH = 107
_COMMAND_TIMEOUT_S = 120.0
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.05

# What a machine with little to do but this would be given. Nothing in it weakens durability.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "standby",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
}


class Programs(NamedTuple):
    """PostgreSQL's programs, all from one installation."""

    initdb: str
    pg_basebackup: str
    postgres: str
    psql: str


def find_programs() -> Programs:
    """Return where PostgreSQL's programs are. Raises Refused with a sentence how to get them."""
    versions = sorted(_DEBIAN.glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    # The real file's neighbours: a link on the PATH may stand there alone.
    for directory in [*([Path(on_path).resolve().parent] if on_path else []), *versions]:
        if all((directory / name).is_file() for name in _PROGRAMS):
            return Programs(*(str(directory / name) for name in _PROGRAMS))
    raise Refused("the suite peer needs PostgreSQL's server and client: apt install postgresql (Debian)")


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0


class Account(NamedTuple):
    """The user that the servers run as."""

    uid: int
    gid: int


def unprivileged() -> Account:
    """Return ourselves, or, when we are root, `postgres`, or else `nobody`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise Refused("PostgreSQL does not run as root, and there is neither a user postgres nor nobody: add one")


class Postgres:
    """Two servers. Made by `temporary_postgres`, in sync."""

    def __init__(self, directory: Path, programs: Programs, account: Account) -> None:
        self.directory = directory
        self._programs = programs
        self._account = account
        self._servers: dict[str, Child] = {}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the two postmasters, by what they are."""
        return {name: child.pid for name, child in self._servers.items()}

    def query(self, sql: str, port: int = PRIMARY_PORT) -> str:
        """Run SQL with psql, and return the rows as lines with `|` between the columns. Raises Refused."""
        command = [self._programs.psql, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory)]
        return self._run([*command, "-p", str(port), "-U", USER, "-d", DATABASE, "-c", sql])

    def start(self) -> None:
        """Make and start both, and wait until the standby is a synchronous one."""
        make = [self._programs.initdb, "-D", str(self._data("primary")), "-U", USER, "-A", "trust", "-E", "UTF8"]
        self._run([*make, "--locale=C", "--no-instructions"])
        settings = _SETTINGS | {"unix_socket_directories": str(self.directory)}
        with (self._data("primary") / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self._start("primary", PRIMARY_PORT)
        copy = [self._programs.pg_basebackup, "-D", str(self._data("standby")), "-h", str(self.directory)]
        copy += ["-d", "application_name=standby", "-p", str(PRIMARY_PORT), "-U", USER]
        self._run([*copy, "-R", "-X", "stream", "-c", "fast"])
        self._start("standby", STANDBY_PORT)
        self._wait("standby", "SELECT sync_state FROM pg_stat_replication", "sync", PRIMARY_PORT)
        self.query(SCHEMA)

    def end(self) -> None:
        """End both at once: the directory is removed anyway."""
        for child in self._servers.values():
            child.send(signal.SIGQUIT)  # the postmaster takes its processes with it, which SIGKILL would not do
        for child in self._servers.values():
            processes.wait_until_dead(child, _STOP_WITHIN_S)
            processes.end_at_once(child)

    def refuse_dead(self) -> None:
        """Raise Refused when one has ended."""
        for name, child in self._servers.items():
            if child.returncode is not None:
                raise Refused(f"PostgreSQL's {name} ended under load: {processes.last_line(self._log(name))}")

    def _start(self, name: str, port: int) -> None:
        server = [self._programs.postgres, "-D", str(self._data(name)), "-p", str(port)]
        account = [str(number) for number in self._account]
        command = [processes.PYTHON, "-P", "-m", _MODULE, *account, str(os.getpid()), *server]
        self._servers[name] = Child.start(Launch(command, _environment(), self._log(name)))
        self._wait(name, "SELECT 1", "1", port)

    def _wait(self, name: str, sql: str, answer: str, port: int) -> None:
        give_up_at = time.monotonic() + _READY_WITHIN_S
        while True:
            with contextlib.suppress(Refused):
                if self.query(sql, port) == answer:
                    return
            self.refuse_dead()
            if time.monotonic() > give_up_at:
                raise Refused(f"PostgreSQL's {name} is not ready: {processes.last_line(self._log(name))}")
            time.sleep(_LOOK_EVERY_S)

    def _run(self, command: list[str]) -> str:
        as_user = {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=_environment(),
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
            start_new_session=True,
            **(as_user if os.geteuid() == 0 else {}),  # type: ignore[call-overload]
        )
        if ended.returncode != 0:
            said = " ".join(ended.stderr.split()) or "it said nothing"
            raise Refused(f"{Path(command[0]).name} failed: {said}")
        return str(ended.stdout).strip()

    def _data(self, name: str) -> Path:
        return self.directory / name

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"


def _environment() -> dict[str, str]:
    """Return our environment without libpq's variables, which would lead to somebody's own server."""
    return {name: value for name, value in processes.environment().items() if not name.startswith("PG")}


@contextlib.contextmanager
def temporary_postgres(directory: Path) -> Iterator[Postgres]:
    """Start both servers in a new directory; end them, in whatever state. Raises Refused."""
    account = unprivileged()
    programs = find_programs()
    _require_reachable(directory, account)
    directory.mkdir(mode=0o700)
    os.chown(directory, account.uid, account.gid)
    postgres = Postgres(directory, programs, account)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.end()


def _require_reachable(directory: Path, account: Account) -> None:
    socket = directory / f".s.PGSQL.{PRIMARY_PORT}"
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise Refused(
            f"{socket} is longer than the {_LONGEST_SOCKET_PATH} bytes of a socket's path: name another --data-dir"
        )
    if account.uid == os.geteuid():
        return
    directory.parent.chmod(0o711)  # the bench's own, which its user must be able to pass through
    for parent in directory.parents:
        if not parent.stat().st_mode & 0o001:
            raise Refused(
                f"PostgreSQL runs as user {pwd.getpwuid(account.uid).pw_name}, who may not enter {parent}: "
                "name a --data-dir that everybody can reach, or run the bench as another user than root"
            )
