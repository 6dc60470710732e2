"""The garbage collector of a process that serves: what lives until the end is not looked at again and again."""

from __future__ import annotations

import gc


def spare_what_lives() -> None:
    """To be called when all is loaded: full passes over it would cost tens of milliseconds each."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
