"""Everything that is not a success, as RFC 9457 problem documents, and the one place where outcomes become HTTP.

A `ProblemType` is public like a field name: clients may branch on its `type`. The `detail` is a sentence for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

import msgspec

from ftwallet.api.decode import AmountRefused, FieldError, Malformed
from ftwallet.api.reply import PROBLEM_JSON, Header, Reply, framed, standing
from ftwallet.ledger.money import AmountProblem
from ftwallet.ledger.outcomes import OutcomeCode, sentence
from ftwallet.wallet import Answer, BatchMismatch, Unavailable

_URI: Final = "urn:ftwallet:problem:"
_MAX_MALFORMED: Final = 8


class ProblemType(Enum):
    """Name in the `type` URI, HTTP status, and title of each kind of problem."""

    MALFORMED_REQUEST = ("malformed-request", 422, "Malformed request")
    AMOUNT_NOT_POSITIVE = ("amount-not-positive", 400, "Amount must be positive")
    TOO_MANY_DECIMALS = ("too-many-decimals", 400, "Amount has too many decimals")
    AMOUNT_OVER_LIMIT = ("amount-over-limit", 400, "Amount is over the limit")
    INSUFFICIENT_BALANCE = ("insufficient-balance", 400, "Insufficient balance")
    BALANCE_OVER_LIMIT = ("balance-over-limit", 400, "Balance would be over the limit")
    REFUSED = ("refused", 400, "Transaction was refused")
    BATCH_REFUSED = ("batch-refused", 400, "Batch was refused")
    BATCH_MISMATCH = ("batch-mismatch", 409, "Batch is not the one that was asked before")
    ACCOUNT_NOT_FOUND = ("account-not-found", 404, "Account not found")
    HOLD_NOT_FOUND = ("hold-not-found", 404, "Hold not found")
    HOLD_ENDED = ("hold-ended", 409, "The hold has ended")
    OVER_HOLD = ("over-hold", 400, "Capture is over the hold")
    TRANSACTION_NOT_FOUND = ("transaction-not-found", 404, "Transaction not found")
    TRANSACTION_ID_REUSED = ("transaction-id-reused", 422, "Transaction id was used with different parameters")
    BODY_TOO_LONG = ("body-too-long", 413, "Body is too long")
    NO_SUCH_PATH = ("no-such-path", 404, "No such path")
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "Method not allowed")
    BAD_REQUEST = ("bad-request", 400, "Bad request")
    UNAVAILABLE = ("unavailable", 503, "Service unavailable")
    IN_DOUBT = ("in-doubt", 503, "Outcome is not known yet")
    INTERNAL_ERROR = ("internal-error", 500, "Internal error")

    def __init__(self, slug: str, status: int, title: str) -> None:
        self.uri = _URI + slug
        self.status = status
        self.title = title


PROBLEM_OF_OUTCOME: Final = {
    OutcomeCode.INSUFFICIENT_BALANCE: ProblemType.INSUFFICIENT_BALANCE,
    OutcomeCode.ACCOUNT_NOT_FOUND: ProblemType.ACCOUNT_NOT_FOUND,
    OutcomeCode.BALANCE_OVER_LIMIT: ProblemType.BALANCE_OVER_LIMIT,
    OutcomeCode.ROLLED_BACK: ProblemType.UNAVAILABLE,
    OutcomeCode.ACCOUNT_EXISTS: ProblemType.REFUSED,
    OutcomeCode.CURRENCY_FIXED: ProblemType.REFUSED,
    OutcomeCode.REFUSED_BEFORE_IMPORT: ProblemType.REFUSED,
    OutcomeCode.GROUP_REFUSED: ProblemType.BATCH_REFUSED,
    OutcomeCode.HOLD_NOT_FOUND: ProblemType.HOLD_NOT_FOUND,
    OutcomeCode.HOLD_CAPTURED: ProblemType.HOLD_ENDED,
    OutcomeCode.HOLD_RELEASED: ProblemType.HOLD_ENDED,
    OutcomeCode.HOLD_EXPIRED: ProblemType.HOLD_ENDED,
    OutcomeCode.OVER_HOLD: ProblemType.OVER_HOLD,
}
"""Every outcome but OK; what was rolled back was never answered, so it is no refusal but asks for another try."""

_PROBLEM_OF_AMOUNT: Final = {
    AmountProblem.SYNTAX: ProblemType.MALFORMED_REQUEST,
    AmountProblem.NOT_POSITIVE: ProblemType.AMOUNT_NOT_POSITIVE,
    AmountProblem.TOO_MANY_DECIMALS: ProblemType.TOO_MANY_DECIMALS,
    AmountProblem.OVER_LIMIT: ProblemType.AMOUNT_OVER_LIMIT,
}


class Problem(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 document; `errors` is field by field, `retry_after` in seconds."""

    type: str
    title: str
    status: int
    detail: str
    transaction_id: str | None = None
    errors: tuple[dict[str, str], ...] = ()
    retry_after: int | None = None


def problem(
    kind: ProblemType,
    detail: str,
    *,
    transaction_id: str | None = None,
    errors: Iterable[FieldError] = (),
    retry_after: int | None = None,
    headers: Iterable[Header] = (),
) -> Reply:
    """A problem document as a reply; `retry_after` (seconds) also goes into the Retry-After header."""
    document = Problem(
        kind.uri,
        kind.title,
        kind.status,
        detail,
        transaction_id,
        tuple(error._asdict() for error in errors),
        retry_after,
    )
    retry: list[Header] = [] if retry_after is None else [(b"retry-after", b"%d" % retry_after)]
    return framed(kind.status, PROBLEM_JSON, msgspec.json.encode(document), [*retry, *headers])


def malformed(error: Malformed) -> Reply:
    """422 with every field that is wrong."""
    return problem(ProblemType.MALFORMED_REQUEST, str(error), errors=error.errors)


def amount_refused(error: AmountRefused) -> Reply:
    """400: well-formed, but no amount of this currency."""
    return problem(_PROBLEM_OF_AMOUNT[error.code], error.detail, transaction_id=error.transaction_id)


def refused(answer: Answer, exponent: int) -> Reply:
    """The recorded refusal of a transaction: the same document whenever its id is asked again."""
    transaction = answer.transaction
    kind = PROBLEM_OF_OUTCOME[transaction.code]
    return problem(
        kind,
        sentence(transaction, exponent),
        transaction_id=transaction.transaction_id,
        retry_after=1 if kind is ProblemType.UNAVAILABLE else None,
        headers=standing(transaction.lsn, transaction.epoch, answer.mode, answer.replayed),
    )


def id_reused(transaction_id: str, field: str) -> Reply:
    """422: the id belongs to a transaction with another body."""
    return problem(
        ProblemType.TRANSACTION_ID_REUSED,
        f"Transaction id was used with different parameters: {field}",
        transaction_id=transaction_id,
        errors=[FieldError(field, "differs from what the transaction id was used for")],
    )


def account_not_found(headers: Iterable[Header]) -> Reply:
    """404 of a read; `headers` say where in the log it was made."""
    return problem(ProblemType.ACCOUNT_NOT_FOUND, "Account not found", headers=headers)


def hold_not_found(headers: Iterable[Header]) -> Reply:
    """404 of a read; `headers` say where in the log it was made."""
    return problem(ProblemType.HOLD_NOT_FOUND, "Hold not found", headers=headers)


def transaction_not_found(transaction_id: str, headers: Iterable[Header]) -> Reply:
    """404 of a read; `headers` say where in the log it was made."""
    return problem(
        ProblemType.TRANSACTION_NOT_FOUND, "Transaction not found", transaction_id=transaction_id, headers=headers
    )


def body_too_long(limit: int) -> Reply:
    """413; `limit` in bytes. The body has not been looked at."""
    return problem(ProblemType.BODY_TOO_LONG, f"Body is longer than the limit of {limit} bytes")


def unavailable(error: Unavailable, transaction_id: str | None) -> Reply:
    """503: nothing is known of an outcome; `transaction_id` is None for a read."""
    sentence = error.sentence.rstrip(".")
    if transaction_id is None:
        advice = "Nothing was changed; ask again"
    elif error.in_doubt:
        advice = (
            "The transaction may or may not have happened: retry with the same transaction id, which is safe, "
            "and never with a new one"
        )
    else:
        advice = "Nothing was done; retrying with the same transaction id is safe"
    return problem(
        ProblemType.IN_DOUBT if error.in_doubt else ProblemType.UNAVAILABLE,
        f"{sentence}. {advice}",
        transaction_id=transaction_id,
        retry_after=error.retry_after_s,
    )


def batch_malformed(errors: Mapping[int, Malformed | AmountRefused]) -> Reply:
    """422 or 400 of an all_or_nothing batch, by the operations that are none; the first of them is named."""
    malformed_at = [index for index, error in errors.items() if isinstance(error, Malformed)][:_MAX_MALFORMED]
    fields = [
        FieldError(f"operations[{index}]" + ("" if field == "operation" else f".{field}"), detail)
        for index in malformed_at
        for field, detail in _fields_of(errors[index])
    ]
    if fields:
        return malformed(Malformed(fields))
    index, error = next(iter(errors.items()))
    assert isinstance(error, AmountRefused)
    return problem(
        _PROBLEM_OF_AMOUNT[error.code],
        f"Operation {index}: {error.detail}",
        transaction_id=error.transaction_id,
        errors=[FieldError(f"operations[{index}].{error.field}", f"breaks a rule: {error.detail}")],
    )


def _fields_of(error: Malformed | AmountRefused) -> Iterable[FieldError]:
    return error.errors if isinstance(error, Malformed) else ()


def batch_refused(index: int, transaction_id: str, sentence: str, headers: Iterable[Header]) -> Reply:
    """400 of an all_or_nothing batch whose operation at `index` the ledger refused."""
    return problem(
        ProblemType.BATCH_REFUSED,
        f"Operation {index} was refused, and with it the whole batch: {sentence}",
        transaction_id=transaction_id,
        errors=[FieldError(f"operations[{index}]", f"was refused: {sentence}")],
        headers=headers,
    )


def batch_mismatch(index: int, error: BatchMismatch) -> Reply:
    """422 or 409 of an all_or_nothing batch with ids that were used before, but not in this batch."""
    field = f"operations[{index}]"
    if error.differs is not None:
        return problem(
            ProblemType.TRANSACTION_ID_REUSED,
            f"Operation {index}: transaction id was used with different parameters: {error.differs}",
            transaction_id=error.transaction_id,
            errors=[FieldError(f"{field}.{error.differs}", "differs from what the transaction id was used for")],
        )
    return problem(
        ProblemType.BATCH_MISMATCH,
        f"The transaction id of operation {index} was used before, and not in one batch with all of the others: "
        "an all_or_nothing batch is sent again exactly as it was, or with new ids where nothing of it was done",
        transaction_id=error.transaction_id,
        errors=[FieldError(f"{field}.transaction_id", "was used before, and not with all of the others")],
    )


def batch_unavailable(error: Unavailable) -> Reply:
    """503 of a batch: the outcome of all of it, or of a part, is not known."""
    if error.in_doubt:
        advice = (
            "Each of its transactions may or may not have happened: send the same batch again, which is safe, "
            "and never with new ids"
        )
    else:
        advice = "Nothing of it was done; sending the same batch again is safe"
    return problem(
        ProblemType.IN_DOUBT if error.in_doubt else ProblemType.UNAVAILABLE,
        f"{error.sentence.rstrip('.')}. {advice}",
        retry_after=error.retry_after_s,
    )


def internal_error() -> Reply:
    """500: a bug. It says no more than what the caller should do; the log has the rest."""
    return problem(
        ProblemType.INTERNAL_ERROR,
        "Internal error. A transaction may or may not have happened: retry with the same transaction id, which is "
        "safe, and never with a new one",
    )
