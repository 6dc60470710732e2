"""What the OpenAPI document says of each call: its request, its answers, and an example of each.

The examples are framed by the code that answers, so their keys, statuses and titles cannot drift away from it; the
sentences of amounts and of a node that cannot answer are copies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import msgspec

from ftwallet.api import answers, problems, samples
from ftwallet.api.decode import IDEMPOTENCY_KEY
from ftwallet.api.problems import ProblemType
from ftwallet.api.samples import EXPONENT, ID, Examples
from ftwallet.api.schemas import ACCOUNT_ID, HOLD_ID, REPLAYED, RETRY_AFTER, STANDING, TRANSACTION_ID, Described
from ftwallet.ledger import holds
from ftwallet.ledger.holds import Hold, HoldState
from ftwallet.ledger.legs import leg
from ftwallet.ledger.operations import Kind
from ftwallet.ledger.outcomes import OutcomeCode, Status, Transaction
from ftwallet.wallet import BatchMismatch, Unavailable

OVERVIEW: Final = """A wallet ledger that loses no money when anything dies.

Amounts are exact: JSON numbers, or strings in JSON number grammar, never read through a binary float. A 200 means that
the transaction is durable on every node that must hold it, and executed. An answer of 5xx, or none at all, means in
doubt: send the request again **with the same `transaction_id`**, which tells what happened without doing it twice.
"""

INDEX: Final = b'{"name":"FT-Wallet","openapi":"/openapi.json","health":"/health"}'

_OTHER_ID: Final = "6f1c2f4e-5bd5-4a40-a3e3-0c40a6a28d1d"
_REFUSED_AT: Final = b'{"status":400,"lsn":13,"replayed":false,"answer":%b}]}'
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_POOR: Final = OutcomeCode.INSUFFICIENT_BALANCE
_UNKNOWN: Final = OutcomeCode.ACCOUNT_NOT_FOUND
# An id in a path is percent-encoded; a slash may stand as it is.
_TRANSACTION_PATH: Final[Described] = {
    "name": "transaction_id",
    "in": "path",
    "required": True,
    "schema": TRANSACTION_ID,
}
_HOLD_PATH: Final[Described] = {"name": "hold_id", "in": "path", "required": True, "schema": HOLD_ID}
_ACCOUNT_PATH: Final[Described] = {"name": "account_id", "in": "path", "required": True, "schema": ACCOUNT_ID}


def deposit() -> Described:
    """Arguments of the deposit's route."""
    refusals = {
        **samples.amount_refusals(),
        "Balance over the limit": problems.refused(
            samples.answer(Kind.DEPOSIT, 100_050, OutcomeCode.BALANCE_OVER_LIMIT, limit=10**18), EXPONENT
        ),
    }
    return _movement("deposit", "Put money into an account", samples.done(Kind.DEPOSIT, 100_050, 100_050), refusals)


def withdraw() -> Described:
    """Arguments of the withdrawal's route."""
    refusals = {
        **samples.amount_refusals(),
        "Not enough money": problems.refused(
            samples.answer(Kind.WITHDRAW, 25_050, OutcomeCode.INSUFFICIENT_BALANCE), EXPONENT
        ),
        "Unknown account": problems.refused(
            samples.answer(Kind.WITHDRAW, 25_050, OutcomeCode.ACCOUNT_NOT_FOUND), EXPONENT
        ),
    }
    return _movement("withdraw", "Take money out of an account", samples.done(Kind.WITHDRAW, 25_050, 75_000), refusals)


def transfer() -> Described:
    """Arguments of the transfer's route."""
    body = {"from_account_id": "alice", "to_account_id": "bob", "amount": 250.5, "transaction_id": ID}
    legs = [
        {"from_account_id": "alice", "to_account_id": "shop", "amount": 100},
        {"from_account_id": "shop", "to_account_id": "fees", "amount": "2.90"},
    ]
    one, several = [leg("alice", "bob", 25_050)], [leg("alice", "shop", 10_000), leg("shop", "fees", 290)]
    refusals = {
        **samples.amount_refusals(),
        "Not enough money": problems.refused(samples.transferred(one, OutcomeCode.INSUFFICIENT_BALANCE), EXPONENT),
        "Not enough money for a leg": problems.refused(
            samples.transferred(several, OutcomeCode.INSUFFICIENT_BALANCE, at=1), EXPONENT
        ),
        "Unknown account": problems.refused(samples.transferred(one, OutcomeCode.ACCOUNT_NOT_FOUND), EXPONENT),
    }
    done = {
        "One leg": samples.transferred(one, balances=(75_000, 25_050)),
        "Several legs": samples.transferred(several, balances=(65_000, 9_710, 290)),
    }
    return _asking(
        "transfer",
        "Move money from account to account, in one leg or several, all or nothing",
        _success(
            "TransferDone",
            {name: answers.movement_body(answer.transaction, EXPONENT) for name, answer in done.items()},
            {**STANDING, **REPLAYED},
        ),
        refusals,
        _body("Transfer", {"One leg": body, "Several legs": {"legs": legs, "transaction_id": ID}}),
    )


def hold() -> Described:
    """Arguments of the hold's route."""
    asked = samples.asked(holds.hold("user123", 3_000, 600))
    body = {"account_id": "user123", "amount": 30, "transaction_id": "hold-17"}
    refusals = {
        **samples.amount_refusals(),
        "Not enough money": problems.refused(samples.asked(holds.hold("user123", 3_000), _POOR), EXPONENT),
        "Unknown account": problems.refused(samples.asked(holds.hold("user123", 3_000), _UNKNOWN), EXPONENT),
    }
    done = asked.transaction._replace(new_balance=72_000)
    return _asking(
        "hold",
        "Set money of an account aside",
        _success("HoldDone", {"Held": answers.movement_body(done, EXPONENT)}, {**STANDING, **REPLAYED}),
        refusals,
        _body("Hold", {"Without an end": body, "For ten minutes": {**body, "expires_in": 600}}),
    )


def capture() -> Described:
    """Arguments of the capture's route."""
    body = holds.capture("hold-17", 1_000, "shop")
    refusals = {
        **samples.amount_refusals(),
        **samples.hold_refusals(body),
        "More than is left": problems.refused(samples.asked(body, OutcomeCode.OVER_HOLD, limit=500), EXPONENT),
        "Balance over the limit": problems.refused(
            samples.asked(body, OutcomeCode.BALANCE_OVER_LIMIT, limit=10**18), EXPONENT
        ),
    }
    examples = {
        "A part, to an account": {"amount": 10, "to_account_id": "shop", "transaction_id": ID},
        "A part, and no more": {"amount": "12.50", "release_rest": True, "transaction_id": ID},
        "All that is left, to the outside": {"transaction_id": ID},
    }
    done = samples.asked(body).transaction._replace(figures=(1_000, 1_000, 2_000))
    return _of_a_hold("capture", "Pay out of a hold, in whole or in part", done, refusals, _body("Capture", examples))


def release() -> Described:
    """Arguments of the release's route."""
    body = holds.release("hold-17")
    done = samples.asked(body).transaction._replace(figures=(2_000, 1_000, 0))
    asked = _body("Release", {"Release": {"transaction_id": ID}})
    return _of_a_hold("release", "Give back what is left of a hold", done, samples.hold_refusals(body), asked)


def get_hold() -> Described:
    """Arguments of the route that reads a hold."""
    found = Hold("user123", "3000", "2000", 1_700_000_600_123_456, HoldState.OPEN, "1000")
    ended = msgspec.structs.replace(found, left_digits="0", state=HoldState.RELEASED)
    bodies = {name: answers.hold_body("hold-17", one, EXPONENT) for name, one in (("Open", found), ("Ended", ended))}
    missing = problems.hold_not_found([])
    return _read("getHold", "How a hold stands", "HoldState", bodies, {"Unknown hold": missing}, _HOLD_PATH)


def account() -> Described:
    """Arguments of the account's route."""
    bodies = {"Account": answers.account_body("user123", 72_000, 3_000, EXPONENT)}
    missing = {"Unknown account": problems.account_not_found([])}
    return _read(
        "account",
        "What an account has, available and on hold",
        "Account",
        bodies,
        missing,
        _ACCOUNT_PATH,
    )


def balance() -> Described:
    """Arguments of the balance's route."""
    return {
        "operation_id": "balance",
        "summary": "Balance of an account",
        "responses": {
            **_success("Balance", {"Balance": answers.balance_body(75_000, EXPONENT)}, STANDING),
            **_problems(
                {
                    "Unknown account": problems.account_not_found([]),
                    **samples.malformed("account_id", "is missing"),
                    "Body too long": problems.body_too_long(16_384),
                    **samples.read_faults(),
                }
            ),
        },
        "openapi_extra": {"requestBody": _body("BalanceRequest", {"Balance": {"account_id": "user123"}})},
    }


def batch() -> Described:
    """Arguments of the batch's route."""
    operation = {"kind": "deposit", "account_id": "user123", "amount": 1000.5, "transaction_id": ID}
    refused = problems.problem(ProblemType.INSUFFICIENT_BALANCE, "Insufficient balance", transaction_id=_OTHER_ID)[2]
    counts = b'{"success":false,"operations":2,"done":1,"replayed":0,'
    done = answers.movement_body(samples.done(Kind.DEPOSIT, 100_050, 100_050), EXPONENT)
    full = b'%b"results":[{"status":200,"lsn":12,"replayed":false,"answer":%b},%b' % (
        counts,
        done,
        _REFUSED_AT % refused,
    )
    compact = b'%b"exceptions":[{"index":1,%b' % (counts, _REFUSED_AT.removeprefix(b"{") % refused)
    withdrawal = {**operation, "kind": "withdraw", "amount": "2000", "transaction_id": _OTHER_ID}
    operations = {"operations": [operation, withdrawal]}
    examples = {
        "Each for itself": {"mode": "independent", "reply": "full", **operations},
        "All or nothing": {"mode": "all_or_nothing", "reply": "compact", **operations},
    }
    unavailable = {
        name: problems.batch_unavailable(Unavailable(sentence, in_doubt=in_doubt))
        for name, sentence, in_doubt in (
            ("Not begun", "The wallet is overloaded", False),
            ("In doubt", "The outcome is not known yet", True),
        )
    }
    return {
        "operation_id": "batch",
        "summary": "Many operations at once, each for itself or all or nothing",
        "responses": {
            **_success("BatchDone", {"Full": full, "Compact": compact}, {**STANDING, **REPLAYED}),
            **_problems(
                {
                    **samples.amount_refusals(),
                    "All or nothing, and one was refused": problems.batch_refused(
                        1, _OTHER_ID, "Insufficient balance", []
                    ),
                    **samples.malformed("operations", "must hold at least one operation"),
                    "A transaction id used before with another body": problems.batch_mismatch(
                        0, BatchMismatch(0, ID, "amount")
                    ),
                    "Another all_or_nothing batch than before": problems.batch_mismatch(0, BatchMismatch(0, ID)),
                    "Body too long": problems.body_too_long(4_194_304),
                    **unavailable,
                    "A bug": problems.internal_error(),
                }
            ),
        },
        "openapi_extra": {"requestBody": _body("Batch", examples)},
    }


def transaction() -> Described:
    """Arguments of the transaction look-up's route."""
    done = samples.done(Kind.DEPOSIT, 100_050, 100_050)
    rolled_back = done._replace(code=OutcomeCode.ROLLED_BACK, new_balance=None, status=Status.ROLLED_BACK)
    found = {
        "Done": done,
        "Refused": samples.answer(Kind.WITHDRAW, 25_050, OutcomeCode.INSUFFICIENT_BALANCE).transaction,
        "Under way": done._replace(status=Status.PENDING),
        "Rolled back by recovery": rolled_back,
    }
    bodies = {name: answers.transaction_body(each, EXPONENT) for name, each in found.items()}
    missing = {"Unknown transaction": problems.transaction_not_found(ID, [])}
    return _read(
        "transaction",
        "What became of a transaction",
        "Transaction",
        bodies,
        missing,
        _TRANSACTION_PATH,
    )


def health() -> Described:
    """Arguments of the health's route."""
    starting = _success("Health", {"Starting, recovering or without a primary": answers.INITIALIZING}, RETRY_AFTER)
    return {
        "operation_id": "health",
        "summary": "Whether the wallet serves",
        "responses": {
            **_success("Health", {"Serving": answers.HEALTHY}, {}),
            503: {**starting[200], "description": "Not serving yet"},
        },
    }


def _movement(name: str, summary: str, done: Transaction, refusals: Examples) -> Described:
    body = {"account_id": "user123", "amount": 1000.5, "transaction_id": ID}
    examples = {"A number": body, "A string": {**body, "amount": "1000.50"}}
    success = _success("MovementDone", {"Done": answers.movement_body(done, EXPONENT)}, {**STANDING, **REPLAYED})
    return _asking(name, summary, success, refusals, _body("Movement", examples))


def _asking(
    name: str,
    summary: str,
    success: dict[int | str, Described],
    refusals: Examples,
    body: Described,
    differs: str = "amount",
) -> Described:
    """A call that asks for a movement of money."""
    replies = {
        **refusals,
        **samples.malformed("transaction_id", "must not be empty"),
        "Transaction id used before with another body": problems.id_reused(ID, differs),
        "Body too long": problems.body_too_long(16_384),
        "Not begun": problems.unavailable(Unavailable("The wallet is overloaded", in_doubt=False), ID),
        "In doubt": problems.unavailable(Unavailable("The outcome is not known yet", in_doubt=True), ID),
        "A bug": problems.internal_error(),
    }
    key = {"name": IDEMPOTENCY_KEY, "in": "header", "required": False, "schema": TRANSACTION_ID}
    return {
        "operation_id": name,
        "summary": summary,
        "responses": {**success, **_problems(replies)},
        "openapi_extra": {"parameters": [key], "requestBody": body},
    }


def _of_a_hold(name: str, summary: str, done: Transaction, refusals: Examples, body: Described) -> Described:
    success = _success("HoldChanged", {"Done": answers.movement_body(done, EXPONENT)}, {**STANDING, **REPLAYED})
    described = _asking(name, summary, success, refusals, body, "hold_id")
    described["openapi_extra"]["parameters"].append(_HOLD_PATH)
    return described


def _read(
    name: str, summary: str, schema: str, bodies: Mapping[str, bytes], missing: Examples, parameter: Described
) -> Described:
    """A call that reads what the path names."""
    malformed = samples.malformed(parameter["name"], "must have printable characters only")
    return {
        "operation_id": name,
        "summary": summary,
        "responses": {
            **_success(schema, bodies, STANDING),
            **_problems({**missing, **malformed, **samples.read_faults()}),
        },
        "openapi_extra": {"parameters": [parameter]},
    }


def _success(schema: str, bodies: Mapping[str, bytes], headers: Described) -> dict[int | str, Described]:
    content = _content(schema, {name: json.loads(body) for name, body in bodies.items()})
    return {200: {"description": "Done", "headers": headers, "content": {_JSON: content}}}


def _problems(replies: Examples) -> dict[int | str, Described]:
    """One response a status, with all of its examples."""
    examples: dict[int, Described] = {}
    for name, (status, _, body) in replies.items():
        examples.setdefault(status, {})[name] = json.loads(body)
    return {
        status: {
            "description": "; ".join(named),
            "headers": RETRY_AFTER if status == 503 else {},
            "content": {_PROBLEM: _content("Problem", named)},
        }
        for status, named in sorted(examples.items())
    }


def _content(schema: str, examples: Described) -> Described:
    return {
        "schema": {"$ref": f"#/components/schemas/{schema}"},
        "examples": {name: {"value": example} for name, example in examples.items()},
    }


def _body(schema: str, examples: Described) -> Described:
    return {"required": True, "content": {_JSON: _content(schema, examples)}}
