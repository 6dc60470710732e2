"""A node's identity and the lock on its directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftwallet import platform
from ftwallet.errors import BrokenInvariant, DiskFault, ExitCode, Refused
from ftwallet.journal.identity import Identity, lock_directory, lock_holder

LOCK_AND_WAIT = """
import sys
from pathlib import Path
from ftwallet.journal.identity import lock_directory
lock = lock_directory(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_identity_is_the_same_after_a_restart(tmp_path: Path) -> None:
    made = Identity.create(tmp_path / "a", "cluster-1", "a")
    made.record_epoch(3)
    made.record_boot(2)
    read = Identity.load(tmp_path / "a")
    assert (read.cluster_id, read.node, read.incarnation) == ("cluster-1", "a", made.incarnation)
    assert (read.epoch, read.boot, read.format_version) == (3, 2, 1)


def test_two_directories_never_share_an_incarnation(tmp_path: Path) -> None:
    one = Identity.create(tmp_path / "a", "cluster-1", "a")
    other = Identity.create(tmp_path / "b", "cluster-1", "a")
    assert one.incarnation != other.incarnation


def test_I1_a_renewed_incarnation_is_durable(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path, "cluster-1", "a")
    before = identity.incarnation
    assert identity.renew_incarnation() != before
    assert Identity.load(tmp_path).incarnation == identity.incarnation


def test_epoch_never_goes_back(tmp_path: Path) -> None:
    identity = Identity.create(tmp_path, "cluster-1", "a")
    identity.record_epoch(5)
    with pytest.raises(BrokenInvariant, match="from epoch 5 to 4"):
        identity.record_epoch(4)
    with pytest.raises(BrokenInvariant):
        identity.record_boot(-1)
    assert Identity.load(tmp_path).epoch == 5


@pytest.mark.parametrize("operation", ["create_file", "write_all", "fdatasync", "rename"])
def test_C8_a_crash_while_recording_an_epoch_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    identity = Identity.create(tmp_path, "cluster-1", "a")
    identity.record_epoch(1)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(platform, operation, fail)
    with pytest.raises(DiskFault, match="Input/output error"):
        identity.record_epoch(2)
    assert identity.epoch == 1
    assert Identity.load(tmp_path).epoch == 1


def test_I2_a_version_from_the_future_is_refused_with_both_named(tmp_path: Path) -> None:
    Identity.create(tmp_path, "cluster-1", "a")
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 9, "unheard_of": 1}))
    with pytest.raises(Refused, match=r"version 9.*up to 1") as refused:
        Identity.load(tmp_path)
    assert refused.value.code == ExitCode.WRONG_DIRECTORY


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}', '{"format_version": "1"}'])
def test_a_damaged_identity_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "identity.json").write_text(content)
    with pytest.raises(Refused, match=r"identity\.json is damaged"):
        Identity.load(tmp_path)


def test_a_missing_identity_is_refused_and_an_existing_one_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        Identity.load(tmp_path)
    assert not Identity.exists(tmp_path)
    Identity.create(tmp_path, "cluster-1", "a")
    with pytest.raises(Refused, match="holds a node already"):
        Identity.create(tmp_path, "cluster-1", "a")


def test_I3_a_second_process_is_refused_naming_the_pid_of_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCK_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Refused, match=f"in use by the process with pid {holder.pid}"):
            lock_directory(tmp_path)
        assert lock_holder(tmp_path) == platform.process_identity(holder.pid)
        holder.stdin.close()
        holder.wait(10)
    assert lock_holder(tmp_path) is None
    with lock_directory(tmp_path):
        assert lock_holder(tmp_path) == platform.process_identity(os.getpid())


def test_I3_a_lock_that_was_released_is_free(tmp_path: Path) -> None:
    lock_directory(tmp_path).release()
    with lock_directory(tmp_path) as lock:
        lock.release()
        lock.release()
