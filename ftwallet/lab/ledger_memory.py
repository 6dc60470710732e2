"""`python -m ftwallet.lab.ledger_memory COUNT`: what a ledger alone needs to remember COUNT deposits.

Prints the process's anonymous memory in bytes before and after, with ids and accounts like those of the load.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from ftwallet.lab.processes import anonymous_bytes
from ftwallet.lab.wrk import ACCOUNTS, AMOUNT_MINOR, new_prefix, transaction_id
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, decode_operations, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState

_BLOCK = 64


def main() -> None:
    """Fill a ledger and print both figures."""
    count = int(sys.argv[1])
    ledger = Ledger(Rules(), MemoryState())
    gc.disable()
    before = anonymous_bytes(os.getpid())
    fill(ledger, count)
    gc.collect()
    print(before, anonymous_bytes(os.getpid()))


def fill(ledger: Ledger, count: int) -> None:
    """Apply `count` deposits in blocks; they are decoded first, as a node gets them, so that no string is shared."""
    prefix, time_us = new_prefix(), int(time.time() * 1e6)
    for first in range(1, count + 1, _BLOCK):
        numbers = range(first, min(first + _BLOCK, count + 1))
        block = [
            operation(
                Kind.DEPOSIT, transaction_id(prefix, number), f"account-{number % ACCOUNTS}", AMOUNT_MINOR, time_us
            )
            for number in numbers
        ]
        ledger.apply(first, 1, decode_operations(encode_operations(block)))


if __name__ == "__main__":
    main()
