"""What README and docs say, held against the program: links, keys, commands, problems, and the example that is run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from ftwallet.api.problems import ProblemType
from ftwallet.cli.commands import COMMANDS
from ftwallet.config import Config
from ftwallet.errors import ExitCode
from ftwallet.faults.stages import Stage
from ftwallet.replication.states import PrimaryState
from ftwallet.rpc.servicers import PrimaryWalletServicer
from ftwallet.rpc.v1 import wallet_pb2, wallet_pb2_grpc
from tests.api.stand_ins import MemoryWallet
from tests.model.breaks import BREAKS as RULES_OF_THE_MODEL
from tests.replication.breaks import BREAKS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")])

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _prose(page: Path) -> str:
    return _CODE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken(page: Path) -> Iterator[str]:
    for target in set(_LINK.findall(_prose(page))):
        path, _, anchor = target.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        file = (page.parent / path).resolve() if path else page
        if not (file.is_relative_to(ROOT) and file.exists()):
            yield f"{target}: no such file"
        elif anchor and anchor not in _anchors(file):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_to_headings_in_them(page: Path) -> None:
    assert list(_broken(page)) == []


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(_LINK.findall(_prose(ROOT / "README.md")))
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} <= linked


@pytest.mark.parametrize("key", Config.model_fields)
def test_every_key_is_in_the_table_with_its_default(key: str) -> None:
    default = Config.model_fields[key].default
    text = f'"{default}"' if isinstance(default, str | Path) else str(default)
    assert f"| `{key}` | `{text}` |" in _page("operations.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_told(command: str) -> None:
    assert f"ftwallet-run {command}" in _page("operations.md")


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_told(code: ExitCode) -> None:
    assert f"| {int(code)} |" in _page("operations.md")
    name = code.name.lower().replace("_", " ")
    assert (
        code < ExitCode.DISK_FAULT
        or code is ExitCode.INTERRUPTED
        or f"| {int(code)} | {name} |" in _page("operations.md")
    )


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_is_told(stage: Stage) -> None:
    assert f"`{stage}`" in _page("operations.md")
    assert f"`{stage}`" in _page("design.md")


@pytest.mark.parametrize("state", PrimaryState)
def test_every_state_of_a_primary_is_told(state: PrimaryState) -> None:
    assert f"\n| {state.replace('-', ' ')} |" in _page("design.md")


@pytest.mark.parametrize("name", [one.name for one in BREAKS])
def test_every_rule_that_can_be_broken_has_its_story(name: str) -> None:
    assert f"`{name}`" in _page("design.md")


@pytest.mark.parametrize("name", [one.name for one in RULES_OF_THE_MODEL])
def test_every_rule_of_the_model_has_its_history(name: str) -> None:
    assert f"\n| `{name}` |" in _page("protocol.md")


def test_every_promise_names_tests_that_there_are() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^(?:async )?def (test_\w+)\(", tests, re.MULTILINE))
    rows = re.findall(r"^\| (?!---|statement |what )(.*) \|$", _page("semantics.md"), re.MULTILINE)
    named = [set(re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2])) for row in rows]
    assert len(rows) > 30
    assert all(named), "each promise names its test"
    assert set().union(*named) <= there


# ---- api.md


@pytest.mark.parametrize("kind", ProblemType)
def test_every_problem_is_in_the_table_with_its_status(kind: ProblemType) -> None:
    slug = kind.uri.rpartition(":")[2]
    assert re.search(rf"^\| .* \| {kind.status} \| `{slug}` \|", _page("api.md"), re.MULTILINE)


def _json_blocks(name: str) -> list[object]:
    return [
        json.loads(block) for block in re.findall(r"^ *```json\n(.*?)^ *```$", _page(name), re.MULTILINE | re.DOTALL)
    ]


def test_the_examples_of_problems_are_such_problems() -> None:
    kinds = {kind.uri: kind for kind in ProblemType}
    shown = [
        block for block in _json_blocks("api.md") if isinstance(block, dict) and "type" in block and "title" in block
    ]
    assert len(shown) > len(kinds) // 2
    for block in shown:
        kind = kinds[block["type"]]
        assert (block["title"], block["status"]) == (kind.title, kind.status)


def test_json_in_the_docs_is_json() -> None:
    for page in DOCS.glob("*.md"):
        _json_blocks(page.name)


def _python_blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", _page(name), re.MULTILINE | re.DOTALL)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The primary's gRPC face over a ledger in memory."""
    server = grpc.aio.server()
    servicer = PrimaryWalletServicer(MemoryWallet(), wallet_pb2.NodeStatus)
    wallet_pb2_grpc.add_PrimaryWalletServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(None)


async def test_the_grpc_example_runs_and_prints_what_the_page_says(port: int, tmp_path: Path) -> None:
    (example,) = _python_blocks("api.md")
    script = tmp_path / "example.py"
    assert "127.0.0.1:50051" in example
    script.write_text(example.replace("127.0.0.1:50051", f"127.0.0.1:{port}"))
    ran = await asyncio.create_subprocess_exec(sys.executable, script, cwd=ROOT, stdout=subprocess.PIPE)
    printed, _ = await asyncio.wait_for(ran.communicate(), 30)
    assert ran.returncode == 0
    said = re.search(r"^```text\n(True Deposited.*?)^```$", _page("api.md"), re.MULTILINE | re.DOTALL)
    assert said
    assert printed.decode() == said[1]
