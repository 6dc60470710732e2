"""Which account ids and transaction ids are well-formed. Form alone: nothing here burns an id."""

from __future__ import annotations

MAX_ID_CHARACTERS = 128


def account_id_problem(account_id: str) -> str | None:
    """Return what is wrong with an account id as the end of a sentence, or None."""
    if account_id.startswith("@"):
        return "must not start with '@': such accounts belong to the ledger"
    return transaction_id_problem(account_id)


def transaction_id_problem(transaction_id: str) -> str | None:
    """Return what is wrong with a transaction id as the end of a sentence, or None."""
    if not transaction_id:
        return "must not be empty"
    if len(transaction_id) > MAX_ID_CHARACTERS:
        return f"must have at most {MAX_ID_CHARACTERS} characters"
    if not transaction_id.isprintable():
        return "must have printable characters only"
    return None
