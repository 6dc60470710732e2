import pytest

from ftwallet.errors import ClientError
from ftwallet.ledger.imports import imported_balance, imported_transaction
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.operations import Kind, operation
from ftwallet.ledger.outcomes import OutcomeCode
from ftwallet.ledger.state import MemoryState
from ftwallet.node import readable
from ftwallet.node.base import DEFAULT_RULES

FILES = [
    imported_balance("alice", 100, 1),
    imported_balance("bob", 200, 1),
    imported_transaction("t1", OutcomeCode.OK, 1),
    imported_transaction("t2", OutcomeCode.OK, 1),
]


@pytest.mark.parametrize("done", range(5))
def test_an_import_that_was_cut_short_is_finished_by_another(done: int) -> None:
    ledger = Ledger(DEFAULT_RULES, MemoryState())
    if done:
        ledger.apply(1, 1, FILES[:done])
    rest = readable.missing(ledger, FILES)
    assert rest == FILES[done:]
    if rest:
        ledger.apply(done + 1, 1, rest)
    assert dict(ledger.export_accounts()) == {"alice": 100, "bob": 200}
    assert readable.missing(ledger, FILES) == []


@pytest.mark.parametrize(
    "other",
    [
        operation(Kind.DEPOSIT, "t1", "alice", 1, 1),
        operation(Kind.DEPOSIT, "mine", "carol", 1, 1),
        imported_balance("alice", 101, 1),
    ],
)
def test_an_import_into_a_ledger_with_anything_else_is_refused(other: object) -> None:
    ledger = Ledger(DEFAULT_RULES, MemoryState())
    ledger.apply(1, 1, [other])
    with pytest.raises(ClientError, match="not empty"):
        readable.missing(ledger, FILES)
