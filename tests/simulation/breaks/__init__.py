"""Each rule that the shipped nodes keep, broken on purpose, and the simulated world that notices.

    python -m tests.simulation.breaks                       every break, until the worlds catch it
    python -m tests.simulation.breaks no-fence --seeds 500  these alone

Most show in random worlds; where several things must go wrong in one order, `moments.py` has a directed one.
Shipped code is patched in this process alone. The first word of a violation names the invariant that caught the break.
"""

from __future__ import annotations

from tests.simulation.breaks.breaking import Break
from tests.simulation.breaks.disk import DISK
from tests.simulation.breaks.holds import HOLDS
from tests.simulation.breaks.pair import PAIR
from tests.simulation.breaks.recovery import RECOVERY
from tests.simulation.breaks.requests import REQUESTS
from tests.simulation.breaks.search import SEEDS, Caught, find
from tests.simulation.breaks.state_sync import STATE_SYNC
from tests.simulation.breaks.syncs import SYNCS
from tests.simulation.breaks.transfers import TRANSFERS

__all__ = ["BREAKS", "SEEDS", "Break", "Caught", "find"]

BREAKS = (*PAIR, *STATE_SYNC, *RECOVERY, *REQUESTS, *TRANSFERS, *HOLDS, *SYNCS, *DISK)
