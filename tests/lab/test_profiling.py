from __future__ import annotations

from pathlib import Path

import pytest

import ftwallet
from ftwallet.lab import layers
from ftwallet.lab.layers import GRPC, HTTP, JOURNAL, LEDGER, LOOP, OTHER, PIPELINE, REQUEST, layer_of
from ftwallet.lab.profiling import WAITING, Profile, Profiled, Share, layers_grid, shares

PACKAGE = Path(ftwallet.__file__).parent

STACKS = [
    "run (asyncio/runners.py:118);answered (ftwallet/api/asgi.py:58);decode (ftwallet/api/decode.py:100) 6",
    "run (asyncio/runners.py:118);answered (ftwallet/api/asgi.py:61) 3",
    "run (asyncio/runners.py:118);decode (ftwallet/api/decode.py:90);decode (ftwallet/api/decode.py:91) 1",
]


def test_lines_of_one_function_are_added_up_and_recursion_counts_once() -> None:
    assert shares(STACKS) == Profile(
        10,
        [
            Share("decode (ftwallet/api/decode.py)", 70.0, 70.0),
            Share("answered (ftwallet/api/asgi.py)", 30.0, 90.0),
            Share("run (asyncio/runners.py)", 0.0, 100.0),
        ],
        {REQUEST: 10},
    )


def test_a_process_that_did_nothing_has_an_empty_profile() -> None:
    assert shares([]) == Profile(0, [], {})
    profiled = Profiled("primary", 100, 1_000.0, shares([]))
    assert profiled.grid().rows == []
    assert profiled.layers()[WAITING] == 100


@pytest.mark.parametrize(
    ("files", "layer"),
    [
        (["ftwallet/node/process.py", "asyncio/runners.py"], LOOP),
        (["ftwallet/node/process.py", "asyncio/runners.py", "ftwallet/api/protocol.py"], HTTP),
        (["asyncio/runners.py", "ftwallet/api/protocol.py", "ftwallet/api/handlers.py", "enum.py"], REQUEST),
        (["ftwallet/api/handlers.py", "ftwallet/node/service.py"], PIPELINE),
        (["ftwallet/node/service.py", "ftwallet/ledger/ledger.py"], LEDGER),
        (["ftwallet/node/service.py", "ftwallet/ledger/operations.py"], JOURNAL),
        (["ftwallet/rpc/clients.py", "grpc/aio/_call.py"], GRPC),
        (["somebody/else.py"], OTHER),
    ],
)
def test_a_stack_is_of_the_layer_of_its_innermost_known_frame(files: list[str], layer: str) -> None:
    assert layer_of(files) == layer


def test_every_file_of_ours_that_a_layer_names_is_there() -> None:
    ours = [PACKAGE.parent / name for name in layers._FILES if name.startswith("ftwallet/")]
    assert [path for path in ours if not path.exists()] == []


def test_layers_are_shares_of_the_time_and_of_a_deposits() -> None:
    profiled = [Profiled(role, 100, 1_000.0, shares(STACKS)) for role in ("primary", "backup")]
    rows = layers_grid(profiled).rows
    assert [REQUEST, "10.0 %", "100.0", "10.0 %", "100.0"] in rows
    assert [WAITING, "90.0 %", "900.0", "90.0 %", "900.0"] in rows
    assert profiled[0].document()["layers_percent"][REQUEST] == 10
