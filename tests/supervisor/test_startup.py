"""What is checked before anything is started, and that nobody else's process is touched."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.config import Config
from ftwallet.errors import Refused
from ftwallet.journal.identity import lock_directory
from ftwallet.platform import port_holder
from ftwallet.supervisor.processes import Child, Launch
from ftwallet.supervisor.startup import AlreadyRunning, Ground, prepare

HOLD = (
    "import sys, time; from pathlib import Path; from ftwallet.journal.identity import lock_directory\n"
    "lock = lock_directory(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def ground(config: Config) -> Iterator[Ground]:
    ground = prepare(config)
    yield ground
    release(ground)


def release(ground: Ground) -> None:
    ground.listener.close()
    ground.lock.release()


def hold(directory: Path, *words: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(directory), *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def test_a_new_data_directory_is_for_its_owner_alone(config: Config, ground: Ground) -> None:
    assert config.data_dir.stat().st_mode & 0o777 == 0o700
    assert ground.register.primary == "a"
    assert sorted(path.name for path in config.data_dir.iterdir()) == [
        *("a", "b", "cluster.json", "cluster.lock", "lock", "logs")
    ]


@pytest.mark.parametrize("key", ["http_port", "primary_grpc_port", "backup_grpc_port"])
def test_I3_a_taken_port_is_one_sentence_with_pid_and_nothing_is_changed(config: Config, key: str) -> None:
    port = getattr(config, key)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Refused) as refusal:
        prepare(config)
    assert f"port {port} on 127.0.0.1 is taken by " in str(refusal.value)
    assert f"(pid {os.getpid()})" in str(refusal.value)
    assert f"set {key}" in str(refusal.value)
    assert not config.data_dir.exists()


def test_nobody_holds_a_free_port(config: Config) -> None:
    assert port_holder(config.http_port) is None


def test_I3_the_second_supervisor_is_refused_naming_the_first(config: Config, ground: Ground) -> None:
    with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}") as refusal:
        prepare(config)
    assert refusal.value.pid == os.getpid()


def test_C9_a_node_that_outlived_its_supervisor_is_ended(config: Config) -> None:
    release(prepare(config))
    left_over = hold(config.node_dir("a"), "--supervisor-socket")
    ground = prepare(config)
    assert [identity.pid for identity in ground.ended] == [left_over.pid]
    assert left_over.wait(5) == -signal.SIGKILL
    end(left_over)
    release(ground)


LISTEN = (
    "import socket, sys, time; server = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


def listen(port: int, for_s: float, *words: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", LISTEN, str(port), str(for_s), *words]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("key", ["http_port", "primary_grpc_port"])
def test_C9_a_port_that_a_node_of_the_killed_supervisor_is_just_leaving_is_waited_for(config: Config, key: str) -> None:
    release(prepare(config))
    dying = listen(getattr(config, key), 1.0, "--supervisor-socket", str(config.data_dir / "supervisor.sock"))
    release(prepare(config))
    end(dying)


def test_I3_a_stranger_s_port_is_not_waited_for(config: Config) -> None:
    release(prepare(config))
    stranger = listen(config.http_port, 60.0, "--supervisor-socket", "/somewhere/else/supervisor.sock")
    began = time.monotonic()
    with pytest.raises(Refused, match=f"port {config.http_port}"):
        prepare(config)
    assert time.monotonic() - began < 2
    end(stranger)


def test_a_node_run_by_hand_is_left_alone_and_named(config: Config) -> None:
    release(prepare(config))
    by_hand = hold(config.node_dir("b"))
    with pytest.raises(Refused, match=rf"node b runs by hand \(pid {by_hand.pid}\)"):
        prepare(config)
    assert by_hand.poll() is None
    end(by_hand)
    release(prepare(config))


def test_I4_a_stranger_with_the_pid_of_a_left_over_is_not_killed(config: Config) -> None:
    release(prepare(config))
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "--supervisor-socket"])
    start_time = platform.process_identity(stranger.pid).start_time
    (config.node_dir("a") / "lock").write_text(f"{stranger.pid} {start_time - 1}\n")
    release(prepare(config))
    with lock_directory(config.node_dir("a")):  # held by us, while the name in it is the stranger's
        (config.node_dir("a") / "lock").write_text(f"{stranger.pid} {start_time - 1}\n")
        began = time.monotonic()
        with pytest.raises(Refused, match="does not end"):
            prepare(config)
        assert time.monotonic() - began < 10
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_I4_signals_reach_the_child_and_nobody_after_it(tmp_path: Path) -> None:
    child = Child.start(Launch([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "log"))
    assert child.returncode is None
    assert child.send(signal.SIGKILL)
    while child.returncode is None:
        time.sleep(0.01)
    assert child.returncode == -signal.SIGKILL
    assert not child.send(signal.SIGKILL)
    child.close()
    child.close()


def test_G5_a_child_writes_to_its_log_and_not_to_a_pipe(tmp_path: Path) -> None:
    program = "import sys; print('x' * 1_000_000); print('end', file=sys.stderr)"
    child = Child.start(Launch([sys.executable, "-c", program], os.environ, tmp_path / "log"))
    while child.returncode is None:
        time.sleep(0.01)
    child.close()
    assert child.returncode == 0
    assert (tmp_path / "log").read_text().endswith("x\nend\n") or (tmp_path / "log").stat().st_size == 1_000_005
