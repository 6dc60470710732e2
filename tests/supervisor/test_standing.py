"""Whether the backup could take over, why not, and what a kill would do: the same answers as the real thing gives."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import msgspec
import pytest

from ftwallet.config import Config
from ftwallet.replication.register import Register
from ftwallet.supervisor import documents, whatif
from ftwallet.supervisor.events import EVENTS_FILE, Event, encode
from ftwallet.supervisor.past import last_failover
from ftwallet.supervisor.promotion import Failover, Hindrance, explained, hindrance, why_not
from ftwallet.supervisor.slots import DeathNote, Slot
from tests.supervisor.conftest import Cluster
from tests.supervisor.test_promotion import Wallet
from tests.supervisor.test_promotion import wallet as wallet


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"on_primary_death": "promote"})


def standing(cluster: Cluster, node: str) -> dict:
    return next(one for one in documents.status(cluster.supervisor)["nodes"] if one["node"] == node)


def sentences(cluster: Cluster, kind: str) -> list[str]:
    return [event.sentence for event in cluster.history() if event.kind == kind]


async def test_a_backup_in_sync_is_promotable_and_status_says_so(cluster: Cluster) -> None:
    await cluster.whole()
    assert standing(cluster, "b")["promotable"] is True
    assert standing(cluster, "a")["promotable"] is None


async def test_a_foretold_promotion_happens(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    foretold = await supervisor.ask(lambda: whatif.killed(supervisor, "primary"))
    assert (foretold["node"], foretold["promoted"], foretold["why_not_promoted"]) == ("a", "b", None)
    assert foretold["sentences"][0] == "node b would be promoted: it is in sync, 0 records behind"
    supervisor.fleet.signal(supervisor.primary, signal.SIGKILL, DeathNote.KILL)
    await cluster.until(lambda: supervisor.register.primary == "b")
    await cluster.until(lambda: supervisor.failovers.last is not None and supervisor.failovers.last.gap_ms is not None)
    await cluster.until(lambda: supervisor.slots["a"].up)
    again = whatif.killed(supervisor, "primary")
    assert again["node"] == "b"
    assert again["why_not_promoted"].startswith("it is not in sync: resyncing since ")


async def test_a_paused_backup_would_not_be_promoted_and_is_not(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    await supervisor.ask(lambda: supervisor.fleet.pause(supervisor.backup))
    foretold = await supervisor.ask(lambda: whatif.killed(supervisor, "primary"))
    assert (foretold["promoted"], foretold["why_not_promoted"]) == (None, "it is paused")
    assert foretold["sentences"][1:] == [
        "node a would be restarted in place at once",
        "it would serve when node b, which is in the in-sync set, has told what it holds, or without it after "
        f"{supervisor.config.settle_timeout_s:g} s",
        "until then requests wait, and when that takes more than 1 s they are answered 503",
    ]
    assert foretold["dead_node"] == {"verdict": "restart", "delay_s": 0.0, "reason": None}
    assert standing(cluster, "b")["reason"] == "it is paused"
    supervisor.fleet.signal(supervisor.primary, signal.SIGKILL, DeathNote.KILL)
    await cluster.until(lambda: supervisor.primary.runs == 2 and supervisor.ready)
    assert supervisor.register.primary == "a"
    assert sentences(cluster, "not-promoted") == ["Node a is not replaced by its backup, node b: it is paused"]
    assert "Node b is not promotable: it is paused" in sentences(cluster, "not-promotable")


async def test_a_backup_of_a_paused_primary_is_not_said_to_leave_one_that_serves(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    await supervisor.ask(lambda: supervisor.fleet.pause(supervisor.primary))
    foretold = await supervisor.ask(lambda: whatif.killed(supervisor, "backup"))
    hung_s = supervisor.config.hung_after_s
    assert foretold["sentences"][0] == (
        f"node a is paused and serves nobody: unless it is resumed within {hung_s:g} s, it is killed too"
    )


async def test_a_primary_alone_in_the_set_would_wait_for_nobody(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    in_sync = {"a": supervisor.register.in_sync["a"]}
    supervisor.register = msgspec.structs.replace(supervisor.register, in_sync=in_sync)
    foretold = whatif.killed(supervisor, "primary")
    assert foretold["promoted"] is None
    assert "it would serve as soon as it has started, for it alone is in the in-sync set" in foretold["sentences"]


async def test_the_policy_restart_and_a_stop_are_foretold(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    supervisor.config = supervisor.config.model_copy(update={"on_primary_death": "restart"})
    foretold = whatif.killed(supervisor, "a")
    assert foretold["why_not_promoted"] == 'on_primary_death is "restart"'
    await supervisor.ask(supervisor.stop)
    assert whatif.killed(supervisor, "a")["dead_node"]["verdict"] == "stay"


async def test_C10_the_next_death_of_a_crash_loop_is_counted(cluster: Cluster) -> None:
    cluster.behave("b", "mute")
    cluster.start()
    await cluster.until(lambda: cluster.supervisor.backup.run is not None)
    cluster.supervisor.backup.early_deaths = 1
    words = whatif.killed(cluster.supervisor, "b")["sentence"]
    assert "death 2 in a row before it was ready; at 3 it is given up" in words
    cluster.supervisor.backup.early_deaths = 2
    assert whatif.killed(cluster.supervisor, "b")["dead_node"]["verdict"] == "give-up"


@pytest.mark.parametrize("policy", ["promote", "restart"])
async def test_C10_a_primary_that_would_be_given_up_is_replaced_once_its_backup_runs(
    cluster: Cluster, policy: str
) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor
    supervisor.config = supervisor.config.model_copy(update={"on_primary_death": policy})
    await supervisor.ask(lambda: supervisor.fleet.pause(supervisor.backup))
    primary = supervisor.primary
    assert primary.run is not None
    primary.run.was_up, primary.early_deaths = False, 2
    foretold = whatif.killed(supervisor, "primary")
    assert foretold["dead_node"]["verdict"] == "give-up"
    assert ("until node b runs and is in sync" in foretold["sentences"][-1]) == (policy == "promote")
    assert "503 until somebody acts" in foretold["sentences"][-1]


async def test_a_backup_out_of_sync_says_since_when_and_how_far_it_is_behind(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor, backup = cluster.supervisor, cluster.supervisor.backup
    assert backup.status is not None
    backup.status.incarnation, backup.status.reason = "another", "following from lsn 7, 1,204 records behind"
    await supervisor.ask(lambda: None)
    assert hindrance(backup, supervisor.register) is Hindrance.OUT_OF_SYNC
    words = explained(backup, Hindrance.OUT_OF_SYNC)
    assert words.startswith("it is not in sync: resyncing since ")
    assert words.endswith("Z, following from lsn 7, 1,204 records behind")


async def test_changes_alone_are_events_and_not_every_look(cluster: Cluster) -> None:
    await cluster.whole()
    for _ in range(20):
        await cluster.supervisor.ask(lambda: None)
    assert len(sentences(cluster, "promotable")) == 1


def test_a_node_without_a_process_says_why() -> None:
    slot = Slot("b", reason="its disk is full")
    assert explained(slot, Hindrance.DOWN) == "it does not run: its disk is full"


# ---- The last failover, from the history


def history(tmp_path: Path, *events: Event) -> Path:
    path = tmp_path / EVENTS_FILE
    path.write_bytes(b"".join(encode(event) for event in events) + b'{"torn')
    return path


PROMOTED = Event("2026-01-02T03:04:05.000Z", "epoch", "b", "…", {"proposal": "promote", "epoch": 4})
SERVED = Event(
    "2026-01-02T03:04:06.000Z",
    "failover",
    "b",
    "…",
    {"begun_at": "2026-01-02T03:04:05.001Z", "origin": "a", "heir": "b", "cause": "killed by SIGKILL", "gap_ms": 41.0},
)


def test_the_newest_failover_of_the_history_counts(tmp_path: Path) -> None:
    assert last_failover(tmp_path / EVENTS_FILE) is None
    broken = Event("", "failover", "b", "…", {"origin": "a"})
    last = last_failover(history(tmp_path, PROMOTED, SERVED, broken))
    assert last == Failover("2026-01-02T03:04:05.001Z", "a", "b", "killed by SIGKILL", 41.0)


def test_a_promotion_whose_gap_nobody_recorded_hides_the_one_before(tmp_path: Path) -> None:
    last = last_failover(history(tmp_path, SERVED, PROMOTED))
    assert last is not None
    assert (last.origin, last.heir, last.gap_ms) == ("a", "b", None)


def test_O2_whatif_and_the_real_kill_agree_and_the_failover_outlives_the_supervisor(wallet: Wallet) -> None:
    foretold = json.loads(wallet.run("whatif", "kill", "primary", "--json").stdout)
    assert foretold["promoted"] == "b"
    assert wallet.run("kill", "primary").returncode == 0
    wallet.until(mode="paired")
    assert wallet.roles() == {"a": "backup", "b": "primary"}
    said = wallet.run("whatif", "kill", "backup").stdout
    assert "- the primary, node b, would go solo once the witness has recorded it" in said
    assert "(last failover: " in wallet.run("whatif", "kill", "primary").stdout
    before = wallet.status()["last_failover"]
    assert before["gap_ms"] > 0
    shown = wallet.run("status").stdout
    assert "node a: promotable: " in shown
    assert "last failover: " in shown
    assert wallet.run("stop").returncode == 0
    assert wallet.run("up", "-d").returncode == 0
    assert wallet.status()["last_failover"] == before
    assert wallet.run("whatif", "kill", "c").returncode == 2


def test_without_a_supervisor_it_is_refused_with_what_to_do(tmp_path: Path) -> None:
    refused = Wallet(tmp_path / "d").run("whatif", "kill", "primary")
    assert refused.returncode == 4
    assert "ftwallet-run up" in refused.stderr


def test_why_not_names_the_node() -> None:
    assert why_not(Slot("b"), Register("c", 1, "a", {}, {})) == "node b is not promotable: it does not run"
