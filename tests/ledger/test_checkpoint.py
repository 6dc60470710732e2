"""Checkpoints of the ledger: what is loaded is what was exported, whatever the ledger did in between."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.errors import BrokenInvariant
from ftwallet.ledger.chunks import AccountsChunk, EndChunk, HeadChunk, TransactionsChunk, decode_chunk, encode_chunk
from ftwallet.ledger.ledger import Ledger
from ftwallet.ledger.legs import leg, transfer
from ftwallet.ledger.operations import Kind, Operation, asked, operation, rolled_back
from ftwallet.ledger.rules import Rules, changed_rules
from ftwallet.ledger.state import MemoryState, checkpoint_chunks

RULES = Rules(2, 2**128 - 1, 2**128 - 1)

account_ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
transaction_ids = st.text("abc\u00e9\u674e", min_size=1, max_size=3)
amounts = st.one_of(st.integers(1, 2**33), st.integers(1, 2**127))
movements = st.builds(
    operation, st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW]), transaction_ids, account_ids, amounts, st.just(9)
)
ends = st.lists(account_ids | st.just("@world"), min_size=2, max_size=2, unique=True)
legs = st.builds(lambda both, amount: leg(*both, amount), ends, amounts)
transfers = st.builds(asked, st.lists(legs, min_size=1, max_size=3).map(transfer), transaction_ids, st.just(9))
payments = st.one_of(movements, transfers)
rollbacks = st.builds(rolled_back, transaction_ids, st.none() | payments, st.just(9))
histories = st.lists(st.one_of(payments, payments, rollbacks), max_size=40)


def apply(ledger: Ledger, history: list[Operation]) -> None:
    ledger.apply(ledger.applied_lsn + 1, 7, history)


def contents(ledger: Ledger) -> tuple[object, ...]:
    accounts, transactions = list(ledger.export_accounts()), list(ledger.transactions())
    return ledger.applied_lsn, ledger.digest, ledger.rules, accounts, transactions


def large_ledger(operations: int) -> Ledger:
    ledger = Ledger(Rules(), MemoryState())
    apply(ledger, [operation(Kind.DEPOSIT, f"t{number}", f"a{number % 1500}", 1, 9) for number in range(operations)])
    return ledger


def test_an_empty_ledger_has_a_checkpoint_too() -> None:
    ledger = Ledger(RULES, MemoryState())
    assert contents(Ledger.restore(checkpoint_chunks(ledger.state))) == contents(ledger)


@given(histories, histories)
def test_what_is_loaded_is_what_was_exported_and_goes_on_alike(before: list[Operation], after: list[Operation]) -> None:
    ledger = Ledger(RULES, MemoryState())
    apply(ledger, before)
    was = contents(ledger)
    chunks = checkpoint_chunks(ledger.state)
    # The ledger goes on after the copy and before its first chunk is drawn.
    apply(ledger, [changed_rules(Rules(2, 5, 2**100), 9), *after])
    loaded = Ledger.restore(chunks)
    assert contents(loaded) == was
    apply(loaded, [changed_rules(Rules(2, 5, 2**100), 9), *after])
    assert contents(loaded) == contents(ledger)


def test_the_ledger_may_go_on_between_chunks() -> None:
    ledger = large_ledger(4000)
    was = contents(ledger)
    chunks = checkpoint_chunks(ledger.state)

    def drawn() -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            apply(ledger, [operation(Kind.WITHDRAW, f"w{number}", "a1", 1, 9), rolled_back(f"r{number}", None, 9)])
            apply(ledger, [operation(Kind.DEPOSIT, f"n{number}", f"new{number}", 1, 9)])
            yield chunk

    assert contents(Ledger.restore(drawn())) == was
    assert contents(ledger) != was


def test_chunks_are_slices_of_a_thousand() -> None:
    chunks = [decode_chunk(chunk) for chunk in checkpoint_chunks(large_ledger(2500).state)]
    assert [type(chunk) for chunk in chunks] == [HeadChunk, *[AccountsChunk] * 2, *[TransactionsChunk] * 3, EndChunk]
    assert [len(chunk.names) for chunk in chunks if isinstance(chunk, AccountsChunk)] == [1000, 501]
    assert [len(chunk.ids) for chunk in chunks if isinstance(chunk, TransactionsChunk)] == [1000, 1000, 500]


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, -1), slice(0, 3), slice(1, None), slice(0, None, 2)])
def test_a_checkpoint_with_chunks_missing_is_refused(kept: slice) -> None:
    chunks = list(checkpoint_chunks(large_ledger(2500).state))
    with pytest.raises(ValueError, match=r"ends early|do not follow|outside of its head"):
        Ledger.restore(chunks[kept])


def test_a_chunk_too_many_or_twice_is_refused() -> None:
    chunks = list(checkpoint_chunks(large_ledger(2500).state))
    with pytest.raises(ValueError, match="outside of its head and its end"):
        Ledger.restore([*chunks, chunks[-1]])
    with pytest.raises(ValueError, match="do not follow"):
        Ledger.restore([*chunks[:2], *chunks[1:]])
    with pytest.raises(ValueError, match="into an empty state"):
        Ledger.restore([*chunks, *chunks])


@pytest.mark.parametrize("chunk", [b"", b"\xc0", b"\x93\x09\x00\x90", msgspec.msgpack.encode([1, 0, ["a"], [5]])])
def test_bytes_that_are_no_chunk_are_refused(chunk: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Ledger.restore([chunk])


def test_a_newer_format_is_refused_with_both_versions() -> None:
    head = encode_chunk(HeadChunk(0, bytes(32), b"", 1, format=4))
    with pytest.raises(ValueError, match="of format 4; this program reads formats 2 and 3"):
        Ledger.restore([head])


def test_a_checkpoint_of_the_format_before_is_read() -> None:
    ledger = large_ledger(3)
    head, *between, _ = checkpoint_chunks(ledger.state)
    older = msgspec.msgpack.encode([0, *msgspec.msgpack.decode(head)[1:-1], 2])
    assert Ledger.restore([older, *between, msgspec.msgpack.encode([3, 4, 3])]).digest == ledger.digest


def test_balances_that_do_not_add_up_are_noticed_at_the_load() -> None:
    head, *_ = checkpoint_chunks(large_ledger(1).state)
    accounts = AccountsChunk(["@world", "a"], ["-5", "6"])
    with pytest.raises(BrokenInvariant, match="add up to 1 minor units"):
        Ledger.restore([head, encode_chunk(accounts), encode_chunk(EndChunk(2, 0))])


def test_a_state_that_nobody_opened_has_no_checkpoint() -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoint_chunks(MemoryState())
