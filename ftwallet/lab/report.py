"""What a suite found: one JSON object for a program, tables for a person, which are plain when piped."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from ftwallet.lab import machine

SCHEMA = 1
_PIPED_WIDTH = 240  # a pipe has no width; long lines are for whatever reads it


class Grid(NamedTuple):
    """A table: a title, and rows of text below columns. Figures stand to the right, the first column to the left."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


class Report(NamedTuple):
    """`document` is what `--json` prints, `grids` and `lines` what people read, `ok` whether it was verified."""

    document: dict[str, Any]
    grids: list[Grid]
    lines: list[str]
    ok: bool


def document(suite: str, facts: dict[str, Any], settings: dict[str, Any], **found: Any) -> dict[str, Any]:
    """Put together what `--json` prints."""
    return {"schema": SCHEMA, "suite": suite, "machine": facts, "settings": settings, **found}


def print_json(report: Report) -> None:
    """Print the document on stdout, on one line."""
    print(json.dumps(report.document, ensure_ascii=False), flush=True)


def print_tables(report: Report) -> None:
    """Print everything for people on stdout."""
    piped = not sys.stdout.isatty()
    out = Console(highlight=False, width=_PIPED_WIDTH if piped else None, soft_wrap=True)
    out.print(machine.sentence(report.document["machine"]), markup=False)
    for grid in report.grids:
        out.print()
        out.print(grid.title, markup=False)
        out.print(_table(grid, piped))
    out.print()
    for line in report.lines:
        out.print(line, markup=False)


def _table(grid: Grid, piped: bool) -> Table:
    table = Table(box=None if piped else box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(grid.columns):
        table.add_column(column, no_wrap=True, justify="right" if number else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table
