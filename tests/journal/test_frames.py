"""The frame as bytes: what is whole, torn, corrupt, or the end."""

from __future__ import annotations

import random
from itertools import pairwise
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftwallet.errors import PeerViolation
from ftwallet.journal.frames import (
    NO_CHAIN,
    SECTOR_BYTES,
    Block,
    Corrupt,
    End,
    Mark,
    Torn,
    Verdict,
    decode_block,
    encode_block,
    encode_mark,
    judge,
    whole_frame,
)

U64 = st.integers(0, 2**64 - 1)
PAYLOADS = st.binary(max_size=2000).filter(lambda payload: bytes(128) not in payload)
STARTS = [0, 1, 300, 431, 432, 433, 440, 508, 511]
"""Where in a sector a frame begins; the header and the trailer fall on both sides of a boundary."""


def decode_frame(buffer: bytes, offset: int, base: int = 0) -> Block | Mark | Verdict:
    """What a reader finds at `offset` of a buffer with all of a file from its byte `base` on."""
    return whole_frame(buffer, offset) or judge(buffer, offset, base)


def block_of(size: int, lsn: int = 1) -> Block:
    payload = random.Random(size).randbytes(size)
    return encode_block(3, lsn, 2, 0, NO_CHAIN, payload)


@given(U64, st.integers(1, 2**63), st.integers(1, 2**32 - 1), U64, st.binary(min_size=32, max_size=32), PAYLOADS)
def test_a_block_is_read_as_it_was_written(
    epoch: int, first_lsn: int, count: int, commit_lsn: int, chain: bytes, payload: bytes
) -> None:
    block = encode_block(epoch, first_lsn, count, commit_lsn, chain, payload)
    assert decode_block(block.raw) == block
    assert decode_frame(b"before" + block.raw + b"after", 6) == block
    assert (block.payload, block.last_lsn) == (payload, first_lsn + count - 1)


@given(U64, U64, U64, st.binary(min_size=32, max_size=32))
def test_a_mark_is_read_as_it_was_written(epoch: int, lsn: int, commit_lsn: int, chain: bytes) -> None:
    mark = encode_mark(epoch, lsn, commit_lsn, chain)
    assert decode_frame(mark.raw, 0) == mark
    assert mark[:4] == (epoch, lsn, commit_lsn, chain)


@given(st.binary(max_size=300))
def test_any_bytes_from_the_partner_are_a_block_or_its_violation(data: bytes) -> None:
    with pytest.raises(PeerViolation):
        decode_block(data)


def test_a_mark_two_blocks_or_half_a_block_are_no_block_from_the_partner() -> None:
    raw = block_of(40).raw
    for wrong in (encode_mark(1, 1, 0, NO_CHAIN).raw, raw + raw, raw[:-1], raw + b"\0", b""):
        with pytest.raises(PeerViolation):
            decode_block(wrong)


def test_a_payload_that_looks_unwritten_is_never_framed() -> None:
    with pytest.raises(ValueError, match="128 zero bytes"):
        encode_block(1, 1, 1, 0, NO_CHAIN, b"x" + bytes(128) + b"x")
    with pytest.raises(ValueError, match="at least one record"):
        encode_block(1, 1, 0, 0, NO_CHAIN, b"x")


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
def test_D3_a_frame_cut_at_any_byte_is_torn(start: int, size: int) -> None:
    raw = block_of(size).raw
    for end in range(1, len(raw)):
        assert isinstance(decode_frame(raw[:end], 0, start), Torn), end
    assert isinstance(decode_frame(b"", 0, start), End)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
@pytest.mark.parametrize("zeros_after", [0, 3, 2000])
def test_D3_D6_a_frame_that_is_zero_from_any_byte_on_is_torn(start: int, size: int, zeros_after: int) -> None:
    """Killed while the kernel took its bytes, where zeros were prepared."""
    raw = block_of(size).raw
    for end in range(1, len(raw)):
        stopped = raw[:end] + bytes(len(raw) - end + zeros_after)
        assert isinstance(decode_frame(stopped, 0, start), Torn), end


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
def test_D4_D6_a_frame_that_is_zero_from_any_byte_on_is_corrupt_where_another_follows(start: int, size: int) -> None:
    raw, following = block_of(size).raw, block_of(40, 3).raw
    for end in range(1, len(raw)):
        stopped = raw[:end] + bytes(len(raw) - end) + following
        assert isinstance(decode_frame(stopped, 0, start), Corrupt), end


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
@pytest.mark.parametrize("after", [b"", bytes(700), block_of(9, 3).raw])
def test_D4_a_frame_with_any_bit_flipped_is_corrupt(start: int, size: int, after: bytes) -> None:
    raw = block_of(size).raw
    for at in range(len(raw)):
        for bit in range(8) if at < 90 or at > len(raw) - 6 else [at % 8]:
            flipped = bytearray(raw + after)
            flipped[at] ^= 1 << bit
            assert isinstance(decode_frame(bytes(flipped), 0, start), Corrupt), (at, bit)


@given(st.integers(0, 511), st.integers(0, 3000), st.binary(max_size=6), st.data())
def test_D4_no_flipped_bit_makes_a_sparse_payload_look_torn(
    start: int, size: int, sparse: bytes, data: st.DataObject
) -> None:
    """A payload as near to zeros as is let in: single bits, 127 zero bytes apart."""
    gap = data.draw(st.integers(100, 127))
    payload = ((bytes(gap) + b"\1") * (size // (gap + 1)) + sparse)[:size]
    raw = encode_block(0, 1, 1, 0, NO_CHAIN, payload).raw
    at = data.draw(st.integers(0, len(raw) - 1))
    flipped = bytearray(raw)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    assert isinstance(decode_frame(bytes(flipped), 0, start), Corrupt)


def sector_parts(start: int, length: int) -> list[tuple[int, int]]:
    bounds = [0, *range(SECTOR_BYTES - start, length, SECTOR_BYTES), length]
    return list(pairwise(bounds))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
@pytest.mark.parametrize("zeros_after", [0, 3, 2000])
def test_D3_a_last_frame_with_unwritten_sectors_is_torn(start: int, size: int, zeros_after: int) -> None:
    raw = block_of(size).raw
    parts = sector_parts(start, len(raw))
    for chosen in range(1, 2 ** len(parts)):
        torn = bytearray(raw + bytes(zeros_after))
        for number, (low, high) in enumerate(parts):
            if chosen >> number & 1:
                torn[low:high] = bytes(high - low)
        verdict = decode_frame(bytes(torn), 0, start)
        expected = End if chosen == 2 ** len(parts) - 1 else Torn
        assert isinstance(verdict, expected), (chosen, parts)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [0, 5, 600, 1500])
def test_D4_a_frame_with_zeroed_sectors_that_is_not_the_last_is_corrupt(start: int, size: int) -> None:
    raw, following = block_of(size).raw, block_of(700, 3).raw
    for low, high in sector_parts(start, len(raw)):
        damaged = raw[:low] + bytes(high - low) + raw[high:]
        assert isinstance(decode_frame(damaged + following, 0, start), Corrupt)
        assert isinstance(decode_frame(damaged + bytes(600) + following, 0, start), Corrupt)


def test_D4_a_flipped_length_is_not_taken_for_a_torn_frame() -> None:
    flipped = bytearray(block_of(100).raw)
    flipped[10] ^= 1
    assert decode_frame(bytes(flipped), 0) == Corrupt("the header of the frame is damaged")


def test_D6_zeros_are_the_end() -> None:
    for length in (0, 1, 79, 80, 84, 511, 512, 513, 5000):
        assert isinstance(decode_frame(bytes(length), 0), End)
        assert whole_frame(bytes(length), 0) is None


def test_bytes_that_begin_no_frame_are_corrupt() -> None:
    for foreign in (b"x", b"foreign", b"foreign" * 100):
        assert isinstance(decode_frame(foreign, 0), Corrupt)


def test_a_frame_of_a_later_format_says_so() -> None:
    later = bytearray(block_of(10).raw)
    later[4] = 2
    later[76:80] = crc32(bytes(later[:76])).to_bytes(4, "little")
    assert decode_frame(bytes(later), 0) == Corrupt("the frame has format version 2, this program knows 1")


def test_D3_a_torn_mark_is_torn() -> None:
    raw = encode_mark(1, 5, 4, NO_CHAIN).raw
    assert isinstance(decode_frame(raw, 0), Mark)
    for end in range(1, len(raw)):
        assert isinstance(decode_frame(raw[:end], 0), Torn)
