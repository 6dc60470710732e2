"""`ftwallet-run quarantine`: what was cut from the logs, or set aside whole, and what became of it."""

from __future__ import annotations

from typing import Any

import rich_click as click

from ftwallet.cli.options import as_json, load_settings, settings
from ftwallet.cli.terminal import say, say_json
from ftwallet.supervisor.quarantine import listed, shown


@click.command()
@click.argument("action", type=click.Choice(["list", "show"]), metavar="list|show")
@click.argument("name", required=False)
@settings
@as_json
def quarantine(action: str, name: str | None, as_json: bool) -> None:
    """List what both nodes have set aside, or show every transaction in the copy NAME and what became of it.

    Reads only, and works without a supervisor; what became of a transaction a running node alone can tell.
    """
    if (action == "show") != (name is not None):
        raise click.UsageError(
            "show needs the NAME of a copy, as list shows it" if name is None else "list takes no NAME"
        )
    config = load_settings()
    document = listed(config.data_dir) if name is None else shown(config.data_dir, name, config.currency_exponent)
    if as_json:
        say_json(document)
    elif name is None:
        _list(document["copies"])
    else:
        _show(document)


def _list(copies: list[dict[str, Any]]) -> None:
    if not copies:
        say("Nothing is in quarantine: no node has cut anything from its log or set a log aside")
    for copy in copies:
        _head(copy)


def _show(document: dict[str, Any]) -> None:
    _head(document)
    for one in document["transactions"]:
        say(
            f"lsn {one['lsn']:,}, epoch {one['epoch']:,}: {one['type']} {one['transaction_id']}{_asked(one)}: "
            f"{_became(one['became'])}"
        )
    if document["asked"] is None:
        say("The cluster is not running, so what became of them is not known: `ftwallet-run up`, then look again")
    else:
        say(f"What became of them is what node {document['asked']} says now")


def _head(copy: dict[str, Any]) -> None:
    what = "a whole log" if copy["whole_log"] else "what was cut"
    since = "" if copy["from_lsn"] is None else f" from lsn {copy['from_lsn']:,} on"
    count = copy["transaction_count"]
    transactions = f"{count:,} transaction{'' if count == 1 else 's'}"
    say(f"{copy['name']}: {what}{since}, {transactions}, {copy['bytes']:,} bytes, {copy['at'] or 'at an unknown time'}")
    say(f"  why: {copy['why']}")
    for problem in copy["problems"]:
        say(f"  not readable: {problem}")


def _asked(one: dict[str, Any]) -> str:
    """What it asked, as the rest of a sentence."""
    if "legs" in one:
        return "".join(
            f", {leg['amount']} from {leg['from_account_id']} to {leg['to_account_id']}" for leg in one["legs"]
        )
    if "hold_id" in one:
        target = f" to {one['to_account_id']}" if "to_account_id" in one else ""
        return f", {one['amount'] or 'all that is left'} of hold {one['hold_id']}{target}"
    return "" if one["amount"] is None else f", {one['amount']}, account {one['account_id']}"


def _became(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not known"
    if found["status"] == "UNKNOWN":
        return "the ledger does not know this id"
    where = "" if found["lsn"] is None else f" at lsn {found['lsn']:,}, epoch {found['epoch']:,}"
    refused = ", refused" if found["status"] == "COMMITTED" and not found["success"] else ""
    return f"{found['status']}{where}{refused}"
