"""`ftwallet-run export` and `import`: the readable files."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.terminal import say, say_json
from ftwallet.errors import Refused
from ftwallet.supervisor.client import SupervisorClient


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), required=False)
@settings
@as_json
def export(directory: Path | None, as_json: bool) -> None:
    """Write <role>_wallets.json and <role>_transactions.json of each node, atomically.

    Into DIRECTORY, by default the data directory.
    """
    config = load_settings()
    target = (directory or config.data_dir).absolute()
    with SupervisorClient(config.data_dir) as supervisor:
        supervisor.status()  # without a supervisor no directory is made either
        _make(target)
        document = supervisor.export(target)
    if as_json:
        say_json(document)
        return
    for node, written in document["nodes"].items():
        say(f"node {node}: {', '.join(written)}")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{directory} cannot be made: {error.strerror}") from None


@click.command(name="import")
@click.argument("wallets", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("transactions", type=click.Path(path_type=Path, dir_okay=False, exists=True), required=False)
@settings
@as_json
def import_(wallets: Path, transactions: Path | None, as_json: bool) -> None:
    """Take WALLETS and TRANSACTIONS, files as `export` writes them, into an empty ledger.

    Ids whose body the file does not hold match by id alone.
    """
    absolute = transactions.absolute() if transactions else None
    with SupervisorClient(load_settings().data_dir) as supervisor:
        document = supervisor.import_files(wallets.absolute(), absolute)
    if as_json:
        say_json(document)
    else:
        say(f"Imported {document['accounts']:,} accounts and {document['transactions']:,} transactions")
