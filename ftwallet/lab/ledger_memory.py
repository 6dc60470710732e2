"""`python -m ftwallet.lab.ledger_memory FIRST COUNT`: what a ledger alone needs to remember COUNT deposits after FIRST.

Prints the process's anonymous memory in bytes before and after these, with ids and accounts like those of the load.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from ftwallet.lab.processes import anonymous_bytes
from ftwallet.lab.scripts import ACCOUNTS, AMOUNT_MINOR
from ftwallet.lab.wrk import new_prefix, transaction_id
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, Operation, decode_operations, encode_operations, operation
from ftwallet.ledger.rules import Rules
from ftwallet.ledger.state import MemoryState

_BLOCK = 64


def main() -> None:
    """Fill a ledger and print both figures."""
    first, count = map(int, sys.argv[1:3])
    ledger = Ledger(Rules(), MemoryState())
    prefix = new_prefix()
    gc.disable()
    fill(ledger, prefix, first)
    before = anonymous_bytes(os.getpid())
    fill(ledger, prefix, count)
    print(before, anonymous_bytes(os.getpid()))


def fill(ledger: Ledger, prefix: str, count: int) -> None:
    """Apply `count` deposits more in blocks; they are decoded first, as a node gets them, so no string is shared."""
    time_us, end = int(time.time() * 1e6), ledger.applied_lsn + 1 + count
    for first in range(ledger.applied_lsn + 1, end, _BLOCK):
        block = [_deposit(prefix, number, time_us) for number in range(first, min(first + _BLOCK, end))]
        ledger.apply(first, 1, decode_operations(encode_operations(block)))


def _deposit(prefix: str, number: int, time_us: int) -> Operation:
    account_id = f"account-{number % ACCOUNTS}"
    return operation(Kind.DEPOSIT, transaction_id(prefix, number), account_id, AMOUNT_MINOR, time_us)


if __name__ == "__main__":
    main()
