"""Nodes that join, come back as somebody else, or have no room on their disk, under the real supervisor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import product
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

from tests.faults.checker import Client, check
from tests.faults.harness import skip_outside_the_gate, temporary_root
from tests.faults.supervised import Attached, Supervised, running_supervised, sample

SEED = 20_251_124
_ALONE = 20
_SLOW = 4_000
"""Bytes a second over the link: a join takes seconds then."""
_DISK_BYTES = 32 * 1024 * 1024
_MIN_FREE_BYTES = 1024 * 1024

running = partial(running_supervised, link=True)


# ---- O3


def _kill_before_the_record(cluster: Supervised, victim: Attached) -> None:
    assert cluster.link is not None
    cluster.link.restore()
    cluster.link.clog(_SLOW)
    cluster.until(lambda: (status := cluster.backup.status()) is not None and status.state != "in-sync", "it joins")
    victim.kill()
    assert len(cluster.register().in_sync) == 1, "the record was made too early for this test"


def _kill_during_the_record(cluster: Supervised, victim: Attached) -> None:
    """The witness sleeps, so the primary's question lies in its socket when a node dies."""
    assert cluster.link is not None
    assert cluster.supervisor is not None
    log, pid = cluster.data_dir / "logs" / f"{cluster.leads}.log", victim.pid
    said = log.read_text().count("Primary is joining")
    cluster.supervisor.send_signal(SIGSTOP)
    cluster.link.restore()
    cluster.until(lambda: log.read_text().count("Primary is joining") > said, "the primary asks")
    os.kill(pid, SIGKILL)
    cluster.supervisor.send_signal(SIGCONT)
    victim.ends(pid)


def _kill_after_the_record(cluster: Supervised, victim: Attached) -> None:
    assert cluster.link is not None
    pid = victim.pid
    cluster.link.restore()
    cluster.until(lambda: cluster.register().in_sync.keys() == {"a", "b"}, "the join is on record")
    os.kill(pid, SIGKILL)
    victim.ends(pid)


_MOMENTS: dict[str, Callable[[Supervised, Attached], None]] = {
    "before": _kill_before_the_record,
    "during": _kill_during_the_record,
    "after": _kill_after_the_record,
}


@pytest.mark.parametrize(
    ("role", "moment"), sample(SEED, [(role, moment) for moment in _MOMENTS for role in ("primary", "backup")], 3)
)
def test_O3_C7_a_node_dies_before_during_or_after_the_record_of_a_join(
    client: Client, cluster: Supervised, role: str, moment: str
) -> None:
    assert cluster.link is not None
    leads, victim = cluster.leads, getattr(cluster, role)
    cluster.link.cut()
    alone = [client.new_id("alone") for _ in range(_ALONE)]
    for transaction_id in alone:
        assert client.deposit(transaction_id=transaction_id).durability == "solo"
    _MOMENTS[moment](cluster, victim)
    cluster.link.restore()
    cluster.wait_paired()
    if moment == "before":
        assert cluster.leads == leads, "nobody takes over who lacks what was answered alone"
    for transaction_id in alone:
        client.answered_again(transaction_id)


# ---- I1


@pytest.mark.parametrize(("what", "role"), sample(2, list(product(("emptied", "old copy"), ("primary", "backup"))), 2))
def test_I1_a_directory_is_emptied_or_an_old_copy_put_back_and_its_node_is_rebuilt(
    client: Client, cluster: Supervised, what: str, role: str
) -> None:
    node: Attached = getattr(cluster, role)
    other = next(one for one in cluster.nodes.values() if one is not node)
    before = cluster.register().in_sync[node.name]
    old = cluster.root / "old"
    if what == "old copy":
        cluster.stop()
        shutil.copytree(node.directory, old, ignore=shutil.ignore_patterns("*.sock"))
        cluster.start_both()
        _lead(cluster, node if role == "primary" else other)
    acknowledged = client.new_id("acknowledged")
    assert client.deposit(transaction_id=acknowledged).durability == "replicated"
    cluster.stop()
    shutil.rmtree(node.directory)
    if what == "old copy":
        old.rename(node.directory)
    cluster.start_supervisor()
    cluster.until(lambda: node.status() is not None, "it runs")
    node.kill()  # being somebody else must not be forgotten over another crash
    cluster.wait_paired()
    assert cluster.leads == other.name or role == "backup", "a node that lacks what was acknowledged leads"
    if what == "emptied":
        assert cluster.register().in_sync[node.name] != before, "it is another node, and must say so"
    client.answered_again(acknowledged)


def _lead(cluster: Supervised, node: Attached) -> None:
    if cluster.leads != node.name:
        cluster.primary.kill()
        cluster.wait_paired()
    assert cluster.leads == node.name


# ---- D1


@pytest.fixture
def small_disk() -> Iterator[Client]:
    """A cluster whose data directory is a small disk of its own."""
    if os.geteuid() != 0:
        skip_outside_the_gate("only root mounts a disk")
    with temporary_root() as root:
        directory = root / "d"
        directory.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(directory)], capture_output=True
        )
        if mounted.returncode != 0:
            skip_outside_the_gate(f"mounting is not permitted here: {mounted.stderr.decode().strip()}")
        try:
            with closing(Supervised(root, min_free_bytes=_MIN_FREE_BYTES, segment_bytes=1024 * 1024)) as cluster:
                cluster.start_both()
                yield Client(cluster)
        finally:
            subprocess.run(["umount", "-l", str(directory)], check=True)


def test_D1_a_full_disk_is_503_before_anything_is_written_and_goes_on_when_there_is_room(small_disk: Client) -> None:
    client, cluster = small_disk, small_disk.pair
    client.deposit()
    filler = cluster.data_dir / "filler"
    _fill(filler)

    def refused() -> str | None:
        transaction_id = client.new_id("full")
        answer = client.send("deposit", "user123", "1", transaction_id)
        assert answer is not None
        return transaction_id if answer.status == 503 else None

    transaction_id = cluster.until(refused, "the primary sees that its disk is full")
    lsn = cluster.wait_up("a").durable_lsn
    for _ in range(5):
        assert refused()
    assert cluster.wait_up("a").durable_lsn == lsn
    assert client.known(transaction_id) is None
    filler.unlink()
    cluster.until(lambda: client.again(transaction_id).status == 200, "it goes on")
    check(client)
    cluster.agree()


def _fill(filler: Path) -> None:
    """Leave less room than the least that a node wants, and still some for what is under way."""
    statistics = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, statistics.f_bavail * statistics.f_frsize - _MIN_FREE_BYTES // 2)
