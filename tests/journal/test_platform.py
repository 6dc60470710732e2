"""What the operating system does for us."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.platform import ProcessIdentity

DIE_WITH = "import sys, time; from ftwallet.platform import die_with_parent; die_with_parent(int(sys.argv[1]))"


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_I4_a_process_is_known_by_pid_and_start_time() -> None:
    me = platform.process_identity(os.getpid())
    assert platform.same_process(*me)
    assert not platform.same_process(me.pid, me.start_time + 1)


def test_I4_a_stranger_with_the_pid_gets_no_signal() -> None:
    with sleeper() as child:
        stranger = ProcessIdentity(child.pid, platform.process_identity(child.pid).start_time + 1)
        assert not platform.send_signal(stranger, signal.SIGKILL)
        assert child.poll() is None
        child.kill()


def test_a_pidfd_tells_of_the_end_and_carries_signals() -> None:
    with sleeper() as child:
        identity = platform.process_identity(child.pid)
        pidfd = platform.open_pidfd(child.pid)
        assert pidfd is not None
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        assert ended.poll(0) == []
        assert platform.send_signal(identity, signal.SIGKILL, pidfd)
        assert ended.poll(10_000)
        assert not platform.same_process(*identity)  # a zombie until it is reaped, and dead to us
        child.wait(10)
        assert not platform.send_signal(identity, signal.SIGKILL, pidfd)
        assert not platform.send_signal(identity, signal.SIGKILL)
        os.close(pidfd)


def test_an_identity_of_nobody_is_an_error() -> None:
    with sleeper() as child:
        child.kill()
    with pytest.raises(ProcessLookupError):
        platform.process_identity(child.pid)


def test_C9_a_child_whose_parent_is_gone_already_dies_the_same_way() -> None:
    orphan = subprocess.run([sys.executable, "-c", DIE_WITH, "1"], check=False, timeout=20)
    assert orphan.returncode == -signal.SIGKILL
    child = subprocess.run([sys.executable, "-c", DIE_WITH, str(os.getpid())], check=False, timeout=20)
    assert child.returncode == 0


def test_a_short_write_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, bytes(data)[:3], offset))
    fd = platform.create_file(tmp_path / "file")
    platform.write_all(fd, b"0123456789", 2)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"\0\0" + b"0123456789"


def test_D5_an_atomic_write_leaves_the_old_content_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    platform.write_atomically(path, b"old")

    def lost(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(platform, "rename", lost)
        with pytest.raises(OSError, match="No space"):
            platform.write_atomically(path, b"newer")
    assert path.read_bytes() == b"old"
    platform.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_directories_are_made_with_their_parents(tmp_path: Path) -> None:
    platform.make_directory(tmp_path / "x" / "y" / "z")
    platform.make_directory(tmp_path / "x" / "y" / "z")
    assert (tmp_path / "x" / "y" / "z").is_dir()


def test_free_space_is_known(tmp_path: Path) -> None:
    assert platform.free_bytes(tmp_path) > 0
