"""A ledger with a past: deposits through the front door, as many as are asked for and as fast as they go."""

from __future__ import annotations

from ftwallet.errors import Refused
from ftwallet.lab.pair import Pair
from ftwallet.lab.plan import Plan, progress

_CONNECTIONS = 256
_LONGEST_S = 24 * 3600


def fill(plan: Plan, pair: Pair) -> None:
    """Put `plan.transactions` deposits on the pair. Raises Refused when not all of them were done."""
    progress(f"Filling both nodes with {plan.transactions:,} deposits")
    load = pair.load(plan.wrk, min(_CONNECTIONS, plan.transactions), _LONGEST_S, plan.transactions).load
    if load.done < plan.transactions:
        raise Refused(f"of {plan.transactions:,} deposits only {load.done:,} were answered: {load.errors}")
    progress(f"Filled in {load.seconds:.1f} s, {load.per_second:,.0f}/s")
