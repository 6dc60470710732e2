"""The packed form of a remembered transaction: exact, canonical, and small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.ledger.money import MAX_STORED
from ftwallet.ledger.operations import Body, Kind
from ftwallet.ledger.outcomes import Outcome, OutcomeCode
from ftwallet.ledger.packed import Packed, is_rolled_back, pack, remember, unpack

edges = st.sampled_from([0, 1, 2**16, 2**32 - 1, 2**32, 2**64 - 1])
words = st.one_of(st.integers(0, 2**64 - 1), edges)
money = st.one_of(words, st.integers(0, MAX_STORED), st.sampled_from([2**64, MAX_STORED]))
packeds = st.builds(
    Packed,
    kind=st.integers(0, 6),
    code=st.sampled_from([int(code) for code in OutcomeCode]),
    account_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    lsn=words,
    epoch=words,
    time_us=words,
    amount=money,
    figure=st.none() | money,
    extra=st.just(b""),
    figures=st.just(()),
    leg=st.none(),
)
others = st.builds(
    Outcome,
    st.sampled_from(OutcomeCode),
    limit=st.none() | money,
    figures=st.lists(money).map(tuple),
    leg=st.none() | st.integers(0, 31),
)


@given(packeds)
def test_what_was_packed_is_unpacked(known: Packed) -> None:
    packed = pack(*known[:8])
    assert unpack(packed) == known
    assert is_rolled_back(packed) == (known.code == OutcomeCode.ROLLED_BACK)


@given(packeds, packeds)
def test_one_content_has_one_form(left: Packed, right: Packed) -> None:
    assert (pack(*left[:8]) == pack(*right[:8])) == (left == right)


@given(st.binary(min_size=1), others, words, words, words)
def test_a_transfer_is_unpacked_as_it_was(extra: bytes, outcome: Outcome, lsn: int, epoch: int, time_us: int) -> None:
    packed = remember(Body(Kind.TRANSFER, "", 0, extra), outcome, lsn, epoch, time_us)
    assert unpack(packed) == Packed(
        Kind.TRANSFER, outcome.code, "", lsn, epoch, time_us, 0, outcome.limit, extra, outcome.figures, outcome.leg
    )
    assert is_rolled_back(packed) == (outcome.code is OutcomeCode.ROLLED_BACK)


def test_a_common_transaction_takes_25_bytes_and_its_account() -> None:
    packed = pack(1, 0, "user123", 4_000_000_000, 60_000, 1_795_000_000_000_000, 4_000_000_000, 4_000_000_000)
    assert len(packed) == 25 + len("user123")


@pytest.mark.parametrize("damaged", [b"", b"\x03" + bytes(28), bytes(24), b"\x01" + bytes(28), bytes(25) + b"\xff"])
def test_other_bytes_are_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="packed transaction"):
        unpack(damaged)
