"""Promotions that do not come off, over fake nodes: whatever goes wrong, somebody leads soon, and nobody spins."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from ftwallet.config import Config
from ftwallet.errors import DiskFault, ExitCode
from ftwallet.replication.register import Decision, Proposal, ProposalKind
from ftwallet.supervisor import replacement
from ftwallet.supervisor.slots import DeathNote, Phase
from ftwallet.witness.file import FileWitness
from tests.supervisor.conftest import Cluster


@pytest.fixture
def config(config: Config) -> Config:
    return config.model_copy(update={"on_primary_death": "promote"})


def kill_primary(cluster: Cluster) -> Callable[[], bool]:
    return lambda: cluster.supervisor.fleet.signal(cluster.supervisor.primary, signal.SIGKILL, DeathNote.KILL)


def failing(monkeypatch: pytest.MonkeyPatch, *, stands: bool) -> list[Proposal]:
    """Every record of a promotion fails: before anything was written, or after, when it `stands` already."""
    propose, tries = FileWitness.propose, list[Proposal]()

    def fail(witness: FileWitness, proposal: Proposal) -> Decision:
        if proposal.kind is ProposalKind.PROMOTE:
            tries.append(proposal)
            if stands:
                propose(witness, proposal)
            raise DiskFault("cluster.json could not be written: No space left on device")
        return propose(witness, proposal)

    monkeypatch.setattr(FileWitness, "propose", fail)
    return tries


async def test_D8_a_promotion_that_stands_though_its_write_failed_is_carried_out(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.whole()
    failing(monkeypatch, stands=True)
    supervisor = cluster.supervisor
    await supervisor.ask(kill_primary(cluster))
    await cluster.until(lambda: supervisor.register.primary == "b" and supervisor.ready)
    await cluster.until(lambda: supervisor.slots["a"].up)
    assert {slot.node: supervisor.fleet.role(slot) for slot in supervisor.slots.values()} == {
        "a": "backup",
        "b": "primary",
    }


async def test_without_a_record_the_primary_is_started_in_place_and_pauses_between_its_deaths(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cluster.whole()
    failing(monkeypatch, stands=False)
    supervisor = cluster.supervisor
    cluster.behave("a", "die")
    await supervisor.ask(kill_primary(cluster))
    await cluster.until(lambda: supervisor.slots["a"].phase is Phase.FAILED)
    assert "died 3 times in a row" in supervisor.slots["a"].reason


async def test_a_backup_that_does_not_take_over_when_told_leads_after_a_start_in_place(cluster: Cluster) -> None:
    cluster.behave("b", "unwilling")
    await cluster.whole()
    supervisor = cluster.supervisor
    await supervisor.ask(kill_primary(cluster))
    await cluster.until(lambda: supervisor.register.primary == "b" and supervisor.ready)
    assert supervisor.slots["b"].runs == 2
    assert any("could not take over: it does not want to" in event.sentence for event in cluster.history())


async def test_O1_a_backup_that_has_taken_a_new_incarnation_since_its_last_heartbeat_is_not_promoted(
    cluster: Cluster,
) -> None:
    cluster.behave("b", "renew")
    await cluster.whole()
    supervisor = cluster.supervisor
    await cluster.until(lambda: supervisor.backup.up)

    def renew_and_kill() -> None:
        run = supervisor.backup.run
        assert run is not None
        os.kill(run.child.pid, signal.SIGUSR1)
        kill_primary(cluster)()

    await supervisor.ask(renew_and_kill)
    await cluster.until(lambda: supervisor.slots["a"].runs == 2 and supervisor.ready)
    assert supervisor.register.primary == "a"
    assert any("must catch up first" in event.sentence for event in cluster.history())


async def test_a_backup_that_is_being_stopped_is_not_promoted(cluster: Cluster) -> None:
    cluster.behave("b", "deaf")
    await cluster.whole()
    supervisor = cluster.supervisor

    def stop_the_backup_while_the_primary_dies() -> None:
        supervisor.fleet.terminate(supervisor.backup, time.monotonic(), start_again=True)
        kill_primary(cluster)()

    await supervisor.ask(stop_the_backup_while_the_primary_dies)
    await cluster.until(lambda: supervisor.slots["a"].runs == 2 and supervisor.ready)
    assert supervisor.register.primary == "a"
    assert any("node b: it is stopping" in event.sentence for event in cluster.history())


async def test_a_stop_right_after_a_death_promotes_nobody_and_ends(cluster: Cluster) -> None:
    await cluster.whole()
    supervisor = cluster.supervisor

    def die_and_stop() -> None:
        kill_primary(cluster)()
        while supervisor.primary.run is not None and supervisor.primary.run.child.returncode is None:
            time.sleep(0.01)
        supervisor._look_for_deaths(time.monotonic())
        assert supervisor.changing_roles
        supervisor.stop()

    await supervisor.ask(die_and_stop)
    assert cluster.running is not None
    assert await cluster.running is ExitCode.OK
    assert not any("could not take over" in event.sentence for event in cluster.history())


async def gives_up_its_primary(cluster: Cluster) -> None:
    """Node a is given up while its backup does not answer; then that comes up."""
    await cluster.whole()
    supervisor = cluster.supervisor
    a, b = supervisor.slots["a"], supervisor.slots["b"]
    cluster.behave("b", "mute")
    await supervisor.ask(lambda: supervisor.fleet.signal(b, signal.SIGKILL, DeathNote.KILL))
    await cluster.until(lambda: b.runs == 2)
    cluster.behave("a", f"exit {int(ExitCode.CORRUPTION)} bad byte")
    await supervisor.ask(kill_primary(cluster))
    await cluster.until(lambda: a.phase is Phase.FAILED)
    cluster.behave("b", "")
    cluster.behave("a", "")
    await supervisor.ask(lambda: supervisor.fleet.signal(b, signal.SIGKILL, DeathNote.KILL))


async def test_a_primary_that_is_given_up_while_its_backup_does_not_run_is_replaced_when_that_does(
    cluster: Cluster,
) -> None:
    await gives_up_its_primary(cluster)
    supervisor = cluster.supervisor
    await cluster.until(lambda: supervisor.register.primary == "b" and supervisor.ready)
    await cluster.until(lambda: supervisor.slots["a"].up)


async def test_D1_what_keeps_a_primary_that_was_given_up_from_being_replaced_is_told_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = failing(monkeypatch, stands=False)
    monkeypatch.setattr(replacement, "_AGAIN_AFTER_S", 0.05)
    await gives_up_its_primary(cluster)
    await cluster.until(lambda: len(tries) >= 5)
    told = [event for event in cluster.history() if "No space left" in event.sentence]
    given_up = [event for event in cluster.history() if event.kind == "node-failed"]
    assert (len(told), len(given_up)) == (1, 1), told
    monkeypatch.undo()
    await cluster.until(lambda: cluster.supervisor.register.primary == "b" and cluster.supervisor.ready)
    await cluster.until(lambda: cluster.supervisor.slots["a"].up)


async def test_D8_a_replacement_that_stands_though_its_write_failed_brings_the_failed_node_back_as_backup(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, stands=True)
    await gives_up_its_primary(cluster)
    await cluster.until(lambda: cluster.supervisor.register.primary == "b" and cluster.supervisor.ready)
    await cluster.until(lambda: cluster.supervisor.slots["a"].up)
