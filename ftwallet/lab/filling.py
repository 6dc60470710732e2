"""A ledger with a past: deposits through the front door, as many as are asked for and as fast as they go."""

from __future__ import annotations

from ftwallet.errors import Refused
from ftwallet.lab.pair import Pair
from ftwallet.lab.plan import Plan, progress
from ftwallet.lab.wrk import Order

_CONNECTIONS = 256
_EXPECTED_PER_S = 5_000
_LONGEST_S = 10


def fill(plan: Plan, pair: Pair, deposits: int) -> None:
    """Have a pair answer that many deposits more, hardly more than that. Raises Refused when it does not take them."""
    progress(f"Filling both nodes with {deposits:,} deposits")
    enough = pair.answered + deposits
    while (missing := enough - pair.answered) > 0:
        # wrk only ends by the clock, so it runs for a while again and again, and stops asking when it has enough.
        seconds = min(1 + missing // _EXPECTED_PER_S, _LONGEST_S)
        load = pair.load(plan.wrk, Order(pair.port, min(_CONNECTIONS, missing), seconds, limit=missing)).load
        if load.done == 0:
            raise Refused(f"the pair took no deposit in {seconds} s of filling it: {load.errors}")
        progress(f"{pair.answered:,} are answered")
