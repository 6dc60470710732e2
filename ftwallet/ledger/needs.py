"""What has to be in memory before a block is executed: whose accounts, and which records.

Some of it only a record can tell: the account that a hold is in. So the needs of a block grow when records come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ftwallet.ledger.holds import HELD, capture_terms, decode_hold, hold_key, release_terms
from ftwallet.ledger.legs import accounts_of, decode_legs
from ftwallet.ledger.operations import Kind, Operation

_GROUP: Final = int(Kind.GROUP)
_OF_A_HOLD: Final = frozenset({Kind.CAPTURE, Kind.RELEASE, Kind.EXPIRE})


def needs(operations: Sequence[Operation], record: Callable[[str], bytes | None]) -> tuple[set[str], set[str]]:
    """Accounts and keys of records; `record` gives those that are in memory. Raises ValueError on a bad operation."""
    accounts = {one.account_id for one in operations}
    keys: set[str] = set()
    for one in operations:
        if one.kind > _GROUP:
            _add_needs(one, record, accounts, keys)
    return accounts, keys


def made_by(operations: Sequence[Operation]) -> tuple[set[str], set[str]]:
    """Accounts and keys of records that these may have made, of those that `needs` may name later.

    The accounts of a hold were made with it, so that what ends it needs no record to tell them.
    """
    accounts, keys = needs(operations, lambda key: None)
    keys.update(hold_key(one.transaction_id) for one in operations if one.kind == Kind.HOLD)
    return accounts, keys


def accounts_behind(records: Iterable[bytes | None]) -> set[str]:
    """The accounts that whoever needs these records needs as well."""
    accounts: set[str] = set()
    for record in records:
        if record:
            holder = decode_hold(record).account_id
            accounts |= {holder, HELD + holder}
    return accounts


def _add_needs(one: Operation, record: Callable[[str], bytes | None], accounts: set[str], keys: set[str]) -> None:
    if one.kind == Kind.TRANSFER:
        accounts.update(accounts_of(decode_legs(one.extra)))
    elif one.kind == Kind.HOLD:
        accounts.add(HELD + one.account_id)
    elif one.kind in _OF_A_HOLD:
        if one.kind == Kind.CAPTURE:
            terms = capture_terms(one.extra)
            hold_id = terms.hold_id
            accounts.add(terms.target)
        else:
            hold_id = release_terms(one.extra).hold_id
        key = hold_key(hold_id)
        keys.add(key)
        accounts |= accounts_behind([record(key)])
