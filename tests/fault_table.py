"""docs/faults.md, made from the rows of docs/faults.toml and from the names of the tests that hold them.

    python -m tests.fault_table           # writes docs/faults.md
    python -m tests.fault_table --check   # exits 1, and says what to run, when it is out of date

A test holds the rows whose ids its name begins with, in either case: test_C2_…, test_d1_d2_…. Test files are parsed,
never imported, so the table can be made while somebody is in the middle of writing one. A scenario is a test whose
name is its file's: tests/scenarios/C2_….txt.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "docs" / "faults.toml"
TABLE = ROOT / "docs" / "faults.md"

_IDS = re.compile(r"(?:test_)?((?:[A-Za-z][0-9]{1,2}_)+)")
_HOW = {"tests/scenarios": "S", "tests/simulation": "S", "tests/faults": "P"}


class Row(NamedTuple):
    """One fault; `open` is the part that nothing holds yet, empty when there is none."""

    id: str
    fault: str
    seen: str
    open: str = ""


class Holder(NamedTuple):
    """A test function in a file, which is relative to the project; or a scenario, which is a file."""

    file: str
    name: str

    @property
    def how(self) -> str:
        """S for the simulation, P for real processes, empty for anything else."""
        return _HOW.get(self.file.rpartition("/")[0], "")


class Source(NamedTuple):
    """docs/faults.toml: what stands before the rows, and the rows by the title of their group."""

    introduction: str
    groups: dict[str, list[Row]]


def read_source() -> Source:
    """Read docs/faults.toml."""
    content = tomllib.loads(ROWS.read_text(encoding="utf-8"))
    groups = {group["title"]: [Row(**row) for row in group["row"]] for group in content["group"]}
    return Source(content["introduction"], groups)


def collect(directory: Path = ROOT / "tests") -> dict[str, list[Holder]]:
    """The tests by the row ids that their names carry, in upper case."""
    found: dict[str, list[Holder]] = {}
    for holder in _tests(directory):
        if match := _IDS.match(holder.name):
            for row_id in match[1].upper().rstrip("_").split("_"):
                found.setdefault(row_id, []).append(holder)
    return found


def _tests(directory: Path) -> Iterator[Holder]:
    for path in sorted(directory.rglob("test_*.py")):
        file = path.relative_to(directory.parent).as_posix()
        functions = _functions(ast.parse(path.read_text(encoding="utf-8"), file))
        yield from (Holder(file, name) for name in functions if name.startswith("test_"))
    for path in sorted((directory / "scenarios").glob("*.txt")):
        yield Holder(path.relative_to(directory.parent).as_posix(), path.stem)


def _functions(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name


def render(source: Source, tests: dict[str, list[Holder]]) -> str:
    """The whole of docs/faults.md."""
    rows = [row for group in source.groups.values() for row in group]
    held = [row for row in rows if row.id in tests]
    parts = [source.introduction, f"\n{len(held)} of {len(rows)} rows are held by tests.\n"]
    for title, group in source.groups.items():
        parts.append(f"\n## {title}\n\n| row | fault | what must be seen | tests |\n| --- | --- | --- | --- |\n")
        parts += [f"| {row.id} | {row.fault} | {row.seen} | {_held_by(row, tests)} |\n" for row in group]
    parts.append("\n## The tests of each row\n")
    for row in held:
        parts.append(f"\n### {row.id}\n\n{row.fault}\n\n")
        parts += [f"- [{test.name}](../{test.file}){_how(test)}\n" for test in tests[row.id]]
    return "".join(parts)


def _held_by(row: Row, tests: dict[str, list[Holder]]) -> str:
    if row.id not in tests:
        return "not yet"
    count = len(tests[row.id])
    words = f"[{count} {'test' if count == 1 else 'tests'}](#{row.id.lower()})"
    return f"{words}; open: {row.open}" if row.open else words


def _how(test: Holder) -> str:
    return f", how: {test.how}" if test.how else ""


def main(arguments: list[str]) -> int:
    """Write the table, or only check it."""
    table = render(read_source(), collect())
    if "--check" not in arguments:
        TABLE.write_text(table, encoding="utf-8")
        return 0
    if TABLE.exists() and TABLE.read_text(encoding="utf-8") == table:
        return 0
    print("docs/faults.md is out of date: run `python -m tests.fault_table`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
