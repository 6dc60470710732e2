from __future__ import annotations

from ftwallet.lab.profiling import Profile, Share, shares

STACKS = [
    "run (asyncio/runners.py:118);answered (ftwallet/api/hot.py:58);decode (ftwallet/api/decode.py:100) 6",
    "run (asyncio/runners.py:118);answered (ftwallet/api/hot.py:61) 3",
    "run (asyncio/runners.py:118);decode (ftwallet/api/decode.py:90);decode (ftwallet/api/decode.py:91) 1",
]


def test_lines_of_one_function_are_added_up_and_recursion_counts_once() -> None:
    assert shares(STACKS) == Profile(
        10,
        [
            Share("decode (ftwallet/api/decode.py)", 70.0, 70.0),
            Share("answered (ftwallet/api/hot.py)", 30.0, 90.0),
            Share("run (asyncio/runners.py)", 0.0, 100.0),
        ],
    )


def test_a_process_that_did_nothing_has_an_empty_profile() -> None:
    assert shares([]) == Profile(0, [])
    assert shares([]).grid().rows == []
