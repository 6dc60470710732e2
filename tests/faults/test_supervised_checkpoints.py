"""Deaths in the middle of a checkpoint's file, which nodes write that keep their state in memory."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest

from tests.faults.checker import Client
from tests.faults.supervised import Supervised, dies_at_a_file, running_supervised, sample

SEED = 20_251_124

running = partial(running_supervised, checkpoint_records=40, state="memory", can_die=True)


@pytest.mark.parametrize(("victim", "when"), sample(SEED, list(product(("primary", "backup"), ("before", "after"))), 1))
def test_C8_a_node_dies_in_the_middle_of_a_checkpoint(
    client: Client, cluster: Supervised, victim: str, when: str
) -> None:
    dies_at_a_file(client, cluster, victim, when, ".checkpoint")
