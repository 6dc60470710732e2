"""Deaths in every order under the real supervisor, with failover. Each test ends healed by nobody, and checked."""

from __future__ import annotations

import random
from functools import partial
from itertools import product
from signal import SIGKILL, SIGSTOP

import pytest

from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES, Stage
from tests.faults.checker import AskedTransfer, Client, Sending
from tests.faults.dying_node import order
from tests.faults.supervised import Attached, Supervised, dies_at_a_file, gone, loaded, running_supervised, sample, send

SEED = 20_251_124
_BEFORE_THE_ACK = (Stage.RECEIVED, Stage.PENDING)

running = partial(running_supervised, segment_bytes=4_096, checkpoint_records=40, can_die=True)


# ---- One of them


@pytest.mark.parametrize("stage", BACKUP_STAGES)
def test_C5_the_backup_dies_at_each_of_its_stages(client: Client, cluster: Supervised, stage: Stage) -> None:
    leads, backup, epoch = cluster.leads, cluster.backup, cluster.register().epoch
    pid = backup.pid
    backup.arm(stage)
    first = client.deposit(transaction_id=client.new_id(stage))
    backup.ends(pid)
    if stage is not Stage.ACKED and first.durability == "solo":
        assert int(first.headers["ftwallet-epoch"]) >= epoch
    cluster.wait_paired()
    assert backup.pid != pid
    assert cluster.leads == leads, "nobody takes over from a primary that lives"
    assert cluster.register().epoch > epoch, "the primary answered alone without a record of it"
    assert client.deposit().durability == "replicated"


@pytest.mark.parametrize(("victim", "when"), sample(SEED, list(product(("primary", "backup"), ("before", "after"))), 1))
def test_C8_a_node_dies_in_the_middle_of_a_change_of_segment(
    client: Client, cluster: Supervised, victim: str, when: str
) -> None:
    dies_at_a_file(client, cluster, victim, when, ".journal")


@pytest.mark.parametrize("when", sample(SEED, ["before", "after"], 1))
def test_C8_the_backup_dies_in_the_middle_of_the_change_of_epoch_that_promotes_it(
    client: Client, cluster: Supervised, when: str
) -> None:
    heir, before = cluster.backup, client.new_id("before")
    client.deposit(transaction_id=before)
    pid = heir.pid
    order(cluster.data_dir, heir.name, when, "identity.json")
    cluster.primary.kill()
    heir.ends(pid)
    cluster.wait_paired()
    assert cluster.leads == heir.name, "it was in sync, and is on record as primary"
    client.answered_again(before)


def test_C8_nodes_die_again_and_again_at_any_moment(client: Client, cluster: Supervised) -> None:
    pick = random.Random(SEED)
    load = loaded(client)
    for _ in sample(SEED, list(range(20)), 3):
        load.until(pick.randrange(5, 40))
        cluster.nodes[pick.choice("ab")].kill()
        cluster.wait_paired()
    load.stop()


SPLIT = AskedTransfer((("user123", "shop", "0.75"), ("shop", "fees", "0.25"), ("@world", "user123", "1.5")))


@pytest.mark.parametrize(
    ("victim", "stage"),
    sample(SEED, [*product(["primary"], PRIMARY_STAGES), *product(["backup"], BACKUP_STAGES)], 2),
)
def test_C1_C2_C3_C4_C5_a_node_dies_at_each_stage_of_a_transfer(
    client: Client, cluster: Supervised, victim: str, stage: Stage
) -> None:
    node: Attached = getattr(cluster, victim)
    pid, transaction_id = node.pid, client.new_id(f"transfer-{stage}")
    node.arm(stage)
    sending = Sending(client, transaction_id, asked=SPLIT)
    node.ends(pid)
    sending.answer()
    cluster.wait_paired()
    answer = client.again(transaction_id)
    assert answer is not None, cluster.told()
    assert answer.status == 200
    assert [one["account_id"] for one in answer.document["balances"]] == ["user123", "shop", "fees"]


# ---- Both


@pytest.mark.parametrize(("of_primary", "of_backup"), sample(SEED + 1, list(product(PRIMARY_STAGES, BACKUP_STAGES)), 2))
def test_C6_both_die(client: Client, cluster: Supervised, of_primary: Stage, of_backup: Stage) -> None:
    """One is held at its stage of one transaction, until the other has died at its own stage of the next."""
    primary, backup = cluster.primary, cluster.backup
    pids = [primary.pid, backup.pid]
    behind = of_primary in _BEFORE_THE_ACK
    held, dies = (backup, primary) if behind else (primary, backup)
    held.arm(of_backup if behind else of_primary, signal=SIGSTOP)
    dies.arm(of_primary if behind else of_backup, after=2)
    held_pid, dying_pid = held.pid, dies.pid
    sending = [Sending(client, client.new_id("c6"))]
    cluster.until(lambda: held.stopped or gone(held_pid), "one is held")
    sending.append(Sending(client, client.new_id("c6")))
    if behind:
        dies.ends(dying_pid)
    send(held_pid, SIGKILL)
    send(dying_pid, SIGKILL)  # a primary that is held sends its backup nothing more to die of
    cluster.until(lambda: all(gone(pid) for pid in pids), "both are dead")
    for one in sending:
        one.answer()
    cluster.wait_paired()


# ---- The supervisor


@pytest.mark.parametrize("role", ["primary", "backup"])
def test_C9_the_supervisor_dies_while_a_node_is_stopped(client: Client, cluster: Supervised, role: str) -> None:
    getattr(cluster, role).pause()
    cluster.kill_supervisor()
    assert cluster.rest.call("GET", "/health") is None, "an orphan serves"
    cluster.start_both()


def test_C9_the_supervisor_dies_between_its_record_and_the_promotion(client: Client, cluster: Supervised) -> None:
    heir, before = cluster.backup, client.new_id("before")
    client.deposit(transaction_id=before)
    epoch = cluster.register().epoch
    pid = heir.pid
    order(cluster.data_dir, heir.name, "before", "identity.json")  # it dies when it hears of its promotion
    cluster.primary.send_signal(SIGKILL)
    heir.ends(pid)
    cluster.kill_supervisor()
    assert cluster.register().epoch > epoch, "the promotion was not on record"
    cluster.start_both()
    assert cluster.leads == heir.name, "`up` finishes what was begun"
    client.answered_again(before)


def test_C9_all_three_die(client: Client, cluster: Supervised) -> None:
    load = loaded(client)
    load.until(20)
    assert cluster.supervisor is not None
    pids = [cluster.supervisor.pid, *(node.pid for node in cluster.nodes.values())]
    for pid in random.Random(SEED).sample(pids, 3):
        send(pid, SIGKILL)
    cluster.supervisor.wait()
    cluster.until(lambda: all(gone(pid) for pid in pids), "all three are dead")
    cluster.start_supervisor()
    load.until(20)
    load.stop()
