"""`ftwallet-run kill`."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

import rich_click as click

from ftwallet.cli.options import SignalType, as_json, load_settings, role_argument, settings
from ftwallet.cli.terminal import console, note, say_json
from ftwallet.errors import ExitCode
from ftwallet.faults.stages import BACKUP_STAGES, PRIMARY_STAGES
from ftwallet.supervisor.client import SupervisorClient
from ftwallet.supervisor.order import Order
from ftwallet.supervisor.schema import Document

_STAGES = tuple(dict.fromkeys(str(stage) for stage in (*PRIMARY_STAGES, *BACKUP_STAGES)))

_SECONDS = click.FloatRange(min=0, min_open=True)
_MEANWHILE = {
    "armed": "armed",
    "waiting": "waiting for the transaction",
    "killed": "waiting for the death",
    "died": "looking at what each node had",
    "held": "waiting for the restart",
    "restarted": "waiting until clients are served and the pair is whole",
}
_STATUS_WORDS = {"UNKNOWN": "unknown to the primary (it was never recorded)"}


@click.command()
@role_argument
@click.option(
    "--at",
    "stage",
    type=click.Choice(_STAGES),
    metavar="STAGE",
    default=None,
    help=f"Arm a crash right after this stage: {', '.join(PRIMARY_STAGES)}; backup: {', '.join(BACKUP_STAGES)}.",
)
@click.option("--after", type=click.IntRange(min=1), default=1, help="Of the N-th new transaction from now [1].")
@click.option("--signal", "number", type=SignalType(), default=signal.SIGKILL, help="Signal to die by [SIGKILL].")
@click.option("--no-wait", is_flag=True, help="Return once it is killed or armed.")
@click.option("--probe", is_flag=True, help="Send a small deposit of its own, and show how long it waited.")
@click.option("--timeout", type=_SECONDS, default=30.0, help="Seconds to wait for the death [30].")
@settings
@as_json
def kill(
    role: str,
    stage: str | None,
    after: int,
    number: int,
    no_wait: bool,
    probe: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Kill a node: a SIGKILL of the real process, at once or at a stage of a transaction; then tell what recovery did.

    ROLE is primary, backup, a or b. Without --probe an armed crash waits for somebody's transaction.
    """
    if probe and (no_wait or stage is None):
        raise click.UsageError("--probe goes with --at, and not with --no-wait")
    order = Order(role, stage or "", after, number, no_wait, probe, timeout)
    with SupervisorClient(load_settings().data_dir) as supervisor:
        last = _follow(supervisor.kill(order), as_json)
    raise SystemExit(ExitCode.OK if last.get("ok", True) else ExitCode.FAILED)


def _follow(steps: Iterator[Document], as_json: bool) -> Document:
    last: Document = {}
    with _note_sentences() if as_json else _storyteller() as show:
        for last in steps:
            show(last)
    if as_json:
        say_json(last)
    return last


@contextlib.contextmanager
def _note_sentences() -> Iterator[Callable[[Document], None]]:
    """For `--json`: stdout gets one object alone, so what happens meanwhile goes to stderr."""
    yield lambda step: note(step["sentence"]) if step["sentence"] else None


@contextlib.contextmanager
def _storyteller() -> Iterator[Callable[[Document], None]]:
    out = console()
    with out.status("…") if out.is_terminal else contextlib.nullcontext() as spinner:

        def show(step: Document) -> None:
            if spinner is not None:
                spinner.update(_MEANWHILE.get(step["step"], ""))
            for line in story_lines(step) if step["step"] == "story" else [step["sentence"]]:
                out.print(line, markup=False)

        yield show


def story_lines(story: Document) -> list[str]:
    """Return the end of a story in sentences."""
    node, partner = story["node"], next(iter(other for other in story["after"] if other != story["node"]), "")
    lines = [f"Node {node} took {story['restart_s']:.2f} s from its death until it was up again"]
    if story["role"] == "primary":
        lines.append(f"Clients were without a primary for {story['gap_s']:.2f} s")
    lines += [_lsns(name, story) for name in (node, partner) if name in story["before"] and name in story["after"]]
    if story["transaction_id"]:
        lines.append(_fate(story))
    lines.append(_digests(story["digests"]))
    if story["probe"]:
        lines.append(_probe(story["probe"]))
    lines.append(f"The pair is {story['mode'] or 'not serving'}")
    return lines


def _lsns(node: str, story: Document) -> str:
    before, after = story["before"][node], story["after"][node]
    return (
        f"Node {node}: durable lsn {before['durable_lsn']} when last heard before, {after['durable_lsn']} after; "
        f"commit lsn {before['commit_lsn']} and {after['commit_lsn']}"
    )


def _fate(story: Document) -> str:
    transaction_id, first = story["transaction_id"], story["after_recovery"]
    now = sorted({fate["status"] if fate else "UNKNOWN" for fate in story["transaction"].values()})
    sentence = f"Transaction {transaction_id}: {_STATUS_WORDS.get(first, first)} after recovery"
    if now != [first]:
        sentence += f"; now {' and '.join(now)}, as a retry with the same id has executed it once"
    return sentence


def _digests(digests: Document) -> str:
    if digests["equal"] is None:
        return "Digests could not be compared at one lsn while transactions came in; `ftwallet-run verify` does"
    if digests["equal"]:
        return f"Both nodes have the same digest at lsn {digests['lsn']}"
    return f"THE DIGESTS DIFFER at lsn {digests['lsn']}: run `ftwallet-run verify`"


def _probe(probe: Document) -> str:
    tries = f"{probe['tries']} {'try' if probe['tries'] == 1 else 'tries'}"
    if probe["status"] is None:
        return f"The probe gave up after {probe['waited_s']:.2f} s and {tries}, without an answer"
    said = probe["body"].get("message") or probe["body"].get("detail") or ""
    return f"The probe waited {probe['waited_s']:.2f} s and needed {tries} with one id: {probe['status']} {said}"
