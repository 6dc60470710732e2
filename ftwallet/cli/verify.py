"""`ftwallet-run verify`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.terminal import console, say, say_json
from ftwallet.errors import ExitCode
from ftwallet.supervisor import verify as verification

_SHOWN = 16  # hex digits of a digest


@click.command()
@settings
@as_json
def verify(as_json: bool) -> None:
    """Check both nodes' logs, hash chains, balances and digests against each other. Stops and changes nothing.

    Works with and without a running wallet; exits 1 on any difference.
    """
    data_dir = load_settings().data_dir
    with contextlib.nullcontext(_nothing) if as_json else _progress() as progress:
        report = verification.verify(data_dir, progress)
    if as_json:
        say_json(report)
    else:
        _show(report)
    raise SystemExit(ExitCode.OK if report["ok"] else ExitCode.FAILED)


def _nothing(records: int) -> None:
    """Show no progress."""


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    out = console()
    if not out.is_terminal:
        yield _nothing
        return
    with out.status("reading the logs") as spinner:
        yield lambda records: spinner.update(f"{records:,} records checked")


def _show(report: dict[str, Any]) -> None:
    for node in report["nodes"]:
        say(_node_line(node))
    say(
        f"compared {_count(report['records_compared'], 'record')} in {_count(report['blocks_compared'], 'block')} of "
        "both logs: checksums, hash chains, content"
    )
    sums = "add up to zero" if report["balances_add_up_to_zero"] else "could not be added up"
    say(
        f"executed {_count(report['records_executed'], 'record')} anew: {_count(report['accounts'], 'account')}, "
        f"{_count(report['transactions'], 'transaction')}, all balances, @world's too, {sums}"
    )
    for remark in report["notes"]:
        say(f"note: {remark}")
    for difference in report["differences"]:
        say(f"DIFFERENCE: {difference}")
    say("Both nodes agree: nothing is lost" if report["ok"] else "The nodes do not agree")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _node_line(node: dict[str, Any]) -> str:
    running = "not running"
    if node["running"]:
        agrees = {True: "agrees with its log", False: "DOES NOT AGREE with its log", None: "was not compared"}
        running = f"running, its ledger at lsn {node['running_lsn']} {agrees[node['running_agrees']]}"
    in_sync = "in sync" if node["in_sync"] else "not in the in-sync set"
    return (
        f"node {node['node']} ({in_sync}, {running}): durable lsn {node['durable_lsn']}, commit lsn "
        f"{node['commit_lsn']}, digest {node['digest'][:_SHOWN] or 'unknown'}"
    )
