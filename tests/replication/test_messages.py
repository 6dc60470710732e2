from hypothesis import given
from hypothesis import strategies as st

from ftwallet.replication.messages import EpochEnd, Identity, common_prefix, cut_history, stranger

growing = st.lists(st.integers(1, 4), max_size=12).map(sorted)


def history_of(log: list[int]) -> tuple[EpochEnd, ...]:
    """The history of a log that is given as the epoch of each record."""
    return tuple(EpochEnd(epoch, len(log) - log[::-1].index(epoch)) for epoch in sorted(set(log)))


@given(growing, growing)
def test_common_prefix_is_that_of_the_logs(one: list[int], other: list[int]) -> None:
    common = 0
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    assert common_prefix(history_of(one), history_of(other)) == common


@given(growing, st.integers(0, 12))
def test_cut_history_is_that_of_the_cut_log(log: list[int], lsn: int) -> None:
    assert cut_history(history_of(log), lsn) == history_of(log[:lsn])


def test_I2_a_stranger_is_named() -> None:
    ours = Identity("c1", "a", "x")
    assert stranger(ours, Identity("c1", "b", "y")) is None
    other_cluster = stranger(ours, Identity("c2", "b", "y")) or ""
    assert "c1" in other_cluster
    assert "c2" in other_cluster
    same_name = stranger(ours, Identity("c1", "a", "y")) or ""
    assert "incarnations y and x" in same_name
