"""`ftwallet-run bench`: measures on a temporary cluster, never on the user's ledger, and proves that it was real."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import rich_click as click
from click import get_current_context
from click.core import ParameterSource

from ftwallet.config import load
from ftwallet.errors import ExitCode
from ftwallet.lab import batch, failover, growth, kinds, memory, overload, recovery, report, single
from ftwallet.lab.pair import temporary_directory
from ftwallet.lab.peer import suite as peer
from ftwallet.lab.plan import Plan
from ftwallet.lab.profiling import find_py_spy
from ftwallet.lab.report import Report
from ftwallet.lab.wrk import find_wrk

SUITES: dict[str, Callable[[Plan], Report]] = {
    "single": single.measure,
    "mixed": single.measure_mixed,
    "kinds": kinds.measure,
    "batch": batch.measure,
    "growth": growth.measure,
    "overload": overload.measure,
    "peer": peer.measure,
    "recovery": recovery.measure,
    "memory": memory.measure,
    "failover": failover.measure,
}
_WITHOUT_WRK = ("failover",)  # its load retries each id until it is answered, which wrk cannot
_PAST = {"growth": 10_000_000}
_MOST_ACCOUNTS = 1_000_000
_TRANSACTIONS = {"recovery": 100_000, "memory": 1_000_000}
_CONNECTIONS = {
    "single": (1, 16, 64, 256),
    "mixed": (1, 16, 64, 256),
    "kinds": (16, 64),
    "growth": (64,),
    "peer": (1, 16, 64),
    "batch": (16,),
    "overload": (1_000,),
}
_IN_ROUNDS = tuple(_CONNECTIONS)
_KILLS = {"recovery": 5, "failover": 100}
_BELONGS_TO = {
    "seconds": _IN_ROUNDS,
    "rounds": _IN_ROUNDS,
    "connections": _IN_ROUNDS,
    "profile": ("single",),
    "transactions": ("recovery", "memory"),
    "kills": ("recovery", "failover"),
    "hung": ("failover",),
    "records": ("recovery",),
    "past": ("growth", "failover"),
    "accounts": ("growth", "failover"),
}


class ConnectionsType(click.ParamType[tuple[int, ...]]):
    """Numbers of connections: 1,16,64."""

    name = "connections"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return them in the order given."""
        if isinstance(value, tuple):
            return value
        numbers = value.split(",")
        if not all(number.strip().isdigit() and 1 <= int(number) <= 1_000 for number in numbers):
            self.fail(f"{value!r} are no numbers from 1 to 1000 with commas between, such as 1,16,64", param, ctx)
        return tuple(int(number) for number in numbers)


@click.command()
@click.option("--suite", type=click.Choice(list(SUITES)), default="single", help="What to measure [single].")
@click.option("--seconds", type=click.IntRange(min=1), default=5, help="Seconds of each run of wrk [5].")
@click.option("--rounds", type=click.IntRange(min=1), default=3, help="Runs of each, in turn; medians count [3].")
@click.option(
    "--connections",
    type=ConnectionsType(),
    help="How many at a time [1,16,64,256; peer 1,16,64; kinds 16,64; growth 64; batch 16; overload 1000].",
)
@click.option("--transactions", type=click.IntRange(min=1), help="Recovery and memory: how many [100000, 1000000].")
@click.option("--kills", type=click.IntRange(1, 10_000), help="Recovery and failover: how many kills [5, 100].")
@click.option("--hung", type=click.IntRange(0, 100), default=3, help="Failover: how many SIGSTOPs [3].")
@click.option("--records", type=click.IntRange(min=1), default=1_000_000, help="Recovery: to be replayed [1000000].")
@click.option("--past", type=click.IntRange(min=1), help="Growth and failover: past ids [10000000, none].")
@click.option("--accounts", type=click.IntRange(min=1), help="Growth and failover: of these ids [1000000].")
@click.option("--profile", is_flag=True, help="Single: also show where each node's time goes (needs py-spy).")
@click.option(
    "--config", "config_path", type=click.Path(path_type=Path, dir_okay=False), help="Settings to measure with."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The temporary cluster is made beside this directory, on the same file system; it is never touched itself.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, on stdout alone.")
def bench_command(
    suite: str,
    seconds: int,
    rounds: int,
    connections: tuple[int, ...] | None,
    transactions: int | None,
    kills: int | None,
    hung: int,
    records: int,
    past: int | None,
    accounts: int | None,
    profile: bool,
    config_path: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Measure throughput and latency (single to peer), recovery, memory, or failovers.

    Single is deposits and mixed all that clients ask, against a raw endpoint; kinds is transfers and holds beside
    deposits. Batch is batches of 1,000 and 8,000, and single deposits beside them; growth is deposits with a long
    past, overload before, during and after a crowd that is refused. Peer is the same wallet on FastAPI, asyncpg and
    PostgreSQL with a synchronous standby, in turn with ours. Recovery is the time from a kill to ready, and replay
    in records a second; memory what a node holds for each id. Failover kills the primary again and again under
    load, if asked with a long past. Runs on a temporary cluster with free ports, on the file system of the
    settings' data_dir; all but failover need wrk, and peer needs PostgreSQL. At the end everything that was
    answered is held against both nodes' journals: exits 1 when it does not fit, or when a connection was refused.
    """
    _refuse_options_of_others(suite)
    ids = past or _PAST.get(suite, 0)
    if accounts is not None and accounts > ids:
        raise click.UsageError(f"a past of {ids:,} ids cannot have {accounts:,} accounts: give a smaller --accounts")
    wrk = "" if suite in _WITHOUT_WRK else find_wrk()
    if profile:
        find_py_spy()
    settings = load(config_path, data_dir)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that an end from outside leaves nothing behind
    with temporary_directory(settings.data_dir.parent) as directory:
        asked, deaths = transactions or _TRANSACTIONS.get(suite, 0), kills or _KILLS.get(suite, 0)
        numbers = connections or _CONNECTIONS.get(suite, ())
        of_accounts = accounts or min(ids, _MOST_ACCOUNTS)
        plan = Plan(
            wrk,
            directory,
            settings,
            seconds,
            rounds,
            numbers,
            transactions=asked,
            kills=deaths,
            past=ids,
            accounts=of_accounts,
            hung=hung,
            records=records,
            profile=profile,
        )
        found = SUITES[suite](plan)
    (report.print_json if as_json else report.print_tables)(found)
    raise SystemExit(ExitCode.OK if found.ok else ExitCode.FAILED)


def _refuse_options_of_others(suite: str) -> None:
    context = get_current_context()
    for name, suites in _BELONGS_TO.items():
        if suite not in suites and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} goes with --suite {' or '.join(suites)}, not with {suite}")
