"""Schemas and headers of the OpenAPI document, written by hand: what is accepted is decided in `decode.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ftwallet.api.batch_body import MODES, REPLIES
from ftwallet.api.decode import IDEMPOTENCY_KEY
from ftwallet.api.problems import ProblemType
from ftwallet.ledger.holds import MAX_EXPIRES_IN_S, HoldState
from ftwallet.ledger.identifiers import MAX_ID_CHARACTERS
from ftwallet.ledger.legs import MAX_LEGS
from ftwallet.ledger.outcomes import Status
from ftwallet.ledger.state import WORLD
from ftwallet.wallet import MAX_BATCH_OPERATIONS

Described = dict[str, Any]
"""A piece of an OpenAPI document."""

_STRING: Final = {"type": "string"}
_AMOUNT: Final = {"type": "number", "description": "Exact decimal digits; read it as a decimal, not as a float."}


def _nullable(schema: Mapping[str, Any]) -> Described:
    return {**schema, "type": [schema["type"], "null"]}


def _object(properties: Described, required: list[str] | None = None, optional: Collection[str] = ()) -> Described:
    needed = [name for name in properties if name not in optional] if required is None else required
    return {
        "type": "object",
        "properties": properties,
        "required": needed,
        "additionalProperties": False,
    }


def _id(description: str, pattern: str) -> Described:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ID_CHARACTERS,
        "pattern": pattern,
        "description": f"{description}; printable characters only.",
    }


ACCOUNT_ID: Final = _id(
    "The account, made by its first deposit; no leading `@`", r"^[^@\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
)
TRANSACTION_ID: Final = _id(
    "Unique for the transaction, and the same for every retry of it. "
    f"Outside of a batch the {IDEMPOTENCY_KEY} header may stand in for it",
    r"^[^\x00-\x1f\x7f]+$",
)
HOLD_ID: Final = _id("The hold: the id of the transaction that made it", r"^[^\x00-\x1f\x7f]+$")

_ASKED_AMOUNT: Final[Described] = {
    "description": "Positive, with no more decimals than the currency has. Trailing zeros never count.",
    "oneOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"},
    ],
}
_MOVEMENT: Final[Described] = {
    "account_id": ACCOUNT_ID,
    "amount": _ASKED_AMOUNT,
    "transaction_id": TRANSACTION_ID,
}
_END: Final = {"oneOf": [ACCOUNT_ID, {"const": WORLD, "description": "The outside of the wallet."}]}
_LEG: Final[Described] = {"from_account_id": _END, "to_account_id": _END, "amount": _ASKED_AMOUNT}
_LEGS: Final[Described] = {"type": "array", "minItems": 1, "maxItems": MAX_LEGS, "items": _object(_LEG)}
_LEG_DONE: Final[Described] = {"from_account_id": _STRING, "to_account_id": _STRING, "amount": _AMOUNT}
_BALANCES: Final[Described] = {
    "type": "array",
    "description": "Every account that was touched, with its balance right after it, in the order of the legs.",
    "items": _object({"account_id": _STRING, "new_balance": _AMOUNT}),
}
_EXPIRES_AT: Final[Described] = {"type": ["string", "null"], "format": "date-time", "description": "null for never."}
_OF_HOLDS: Final[Described] = {
    "expires_at": {**_EXPIRES_AT, "description": "Of a hold alone; null for never."},
    "hold_id": {**_STRING, "description": "Of a capture or a release, as all below."},
    "to_account_id": {**_STRING, "description": "Of a capture alone."},
    "release_rest": {"type": "boolean", "description": "Of a capture alone."},
    "moved": {**_nullable(_AMOUNT), "description": "What this one captured or released; null for a refusal."},
    "captured": {**_nullable(_AMOUNT), "description": "What was captured of the hold by then."},
    "left": {**_nullable(_AMOUNT), "description": "What was left of it then."},
}
_DONE: Final = ("MovementDone", "TransferDone", "HoldDone", "HoldChanged")
_OPERATION_ANSWER: Final[Described] = {
    "status": {"type": "integer", "description": "The HTTP status of the single call."},
    "lsn": {"type": ["integer", "null"], "description": "Of its record; null where it has none."},
    "replayed": {"type": "boolean", "description": "Whether its id had been asked before."},
    "answer": {
        "description": "The body of the single call.",
        "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in (*_DONE, "Problem")],
    },
}
_COUNTS: Final[Described] = {
    "success": {"type": "boolean", "description": "Whether all operations are done."},
    "operations": {"type": "integer"},
    "done": {"type": "integer", "description": "Money moved, now or when the id was asked before."},
    "replayed": {"type": "integer", "description": "Ids that had been asked before."},
}

_HOLD: Final[Described] = {
    "account_id": ACCOUNT_ID,
    "amount": _ASKED_AMOUNT,
    "expires_in": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_EXPIRES_IN_S,
        "description": "Seconds, counted from when the transaction is taken. Left out: it never expires.",
    },
    "transaction_id": TRANSACTION_ID,
}
_CAPTURE: Final[Described] = {
    "amount": {**_ASKED_AMOUNT, "description": "Left out: all that is left."},
    "to_account_id": {**_END, "default": WORLD},
    "release_rest": {
        "type": "boolean",
        "default": False,
        "description": "Whether what is left after it goes back to the account at once.",
    },
    "transaction_id": TRANSACTION_ID,
}


_OF_ALL_THAT_IS_LEFT: Final = ("amount", "to_account_id", "release_rest")


def _of_a_batch(kind: str, properties: Described, optional: Collection[str] = ()) -> Described:
    return _object({"kind": {"const": kind}, **properties}, optional=optional)


SCHEMAS: Final[Described] = {
    "Movement": _object(_MOVEMENT, required=["account_id", "amount"]),
    "Transfer": {
        "oneOf": [
            _object({**_LEG, "transaction_id": TRANSACTION_ID}, required=list(_LEG)),
            _object(
                {
                    "legs": _LEGS,
                    "transaction_id": TRANSACTION_ID,
                },
                required=["legs"],
            ),
        ]
    },
    "Hold": _object(_HOLD, required=["account_id", "amount"]),
    "Capture": _object(_CAPTURE, required=[]),
    "Release": _object({"transaction_id": TRANSACTION_ID}, required=[]),
    "Batch": _object(
        {
            "mode": {"enum": list(MODES), "default": MODES[0]},
            "reply": {"enum": list(REPLIES), "default": REPLIES[0]},
            "operations": {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_BATCH_OPERATIONS,
                "items": {
                    "oneOf": [
                        _object({"kind": {"enum": ["deposit", "withdraw"]}, **_MOVEMENT}),
                        _of_a_batch("transfer", {**_LEG, "transaction_id": TRANSACTION_ID}),
                        _of_a_batch("transfer", {"legs": _LEGS, "transaction_id": TRANSACTION_ID}),
                        _of_a_batch("hold", _HOLD, ("expires_in",)),
                        _of_a_batch("capture", {"hold_id": TRANSACTION_ID, **_CAPTURE}, _OF_ALL_THAT_IS_LEFT),
                        _of_a_batch("release", {"hold_id": TRANSACTION_ID, "transaction_id": TRANSACTION_ID}),
                    ]
                },
            },
        },
        required=["operations"],
    ),
    "BatchDone": {
        "oneOf": [
            _object({**_COUNTS, "results": {"type": "array", "items": _object(_OPERATION_ANSWER)}}),
            _object(
                {
                    **_COUNTS,
                    "exceptions": {
                        "type": "array",
                        "description": "The operations that are not done.",
                        "items": _object({"index": {"type": "integer"}, **_OPERATION_ANSWER}),
                    },
                }
            ),
        ]
    },
    "BalanceRequest": _object({"account_id": ACCOUNT_ID}),
    "MovementDone": _object(
        {
            "success": {"const": True},
            "message": _STRING,
            "new_balance": _nullable(_AMOUNT),
            "transaction_id": _STRING,
        }
    ),
    "TransferDone": _object(
        {"success": {"const": True}, "message": _STRING, "balances": _BALANCES, "transaction_id": _STRING}
    ),
    "HoldDone": _object(
        {
            "success": {"const": True},
            "message": _STRING,
            "new_balance": {**_nullable(_AMOUNT), "description": "What is available after it."},
            "expires_at": _EXPIRES_AT,
            "transaction_id": {**_STRING, "description": "The hold's id from now on."},
        }
    ),
    "HoldChanged": _object(
        {
            "success": {"const": True},
            "message": _STRING,
            "captured": {**_AMOUNT, "description": "All that was captured of the hold so far."},
            "left": {**_AMOUNT, "description": "What is left of it."},
            "transaction_id": _STRING,
        }
    ),
    "HoldState": _object(
        {
            "hold_id": _STRING,
            "account_id": _STRING,
            "amount": _AMOUNT,
            "captured": _AMOUNT,
            "left": _AMOUNT,
            "status": {"enum": [state.name.lower() for state in HoldState]},
            "expires_at": _EXPIRES_AT,
        }
    ),
    "Account": _object(
        {
            "account_id": _STRING,
            "balance": {**_AMOUNT, "description": "What can be spent."},
            "held": {**_AMOUNT, "description": "What is on hold."},
            "total": {**_AMOUNT, "description": "Both."},
        }
    ),
    "Balance": _object({"success": {"const": True}, "balance": _AMOUNT, "message": _STRING}),
    "Transaction": _object(
        {
            "transaction_id": _STRING,
            "status": {"enum": [status.value for status in Status]},
            "success": {"type": ["boolean", "null"], "description": "null while it is PENDING."},
            "message": _nullable(_STRING),
            "type": {**_nullable(_STRING), "description": "null where its body is not known."},
            "account_id": _nullable(_STRING),
            "amount": _nullable(_AMOUNT),
            "new_balance": _nullable(_AMOUNT),
            "lsn": {"type": ["integer", "null"]},
            "epoch": {"type": ["integer", "null"]},
            "time": {"type": ["string", "null"], "format": "date-time"},
            "legs": {"type": "array", "description": "Of a transfer alone.", "items": _object(_LEG_DONE)},
            "balances": {**_BALANCES, "description": "Of a transfer alone; empty when it was refused."},
            **_OF_HOLDS,
        },
        optional=("legs", "balances", *_OF_HOLDS),
    ),
    "Health": _object({"status": {"enum": ["healthy", "initializing"]}}),
    "Problem": _object(
        {
            "type": {"enum": [kind.uri for kind in ProblemType]},
            "title": _STRING,
            "status": {"type": "integer"},
            "detail": {**_STRING, "description": "A sentence for a person."},
            "transaction_id": _STRING,
            "errors": {"type": "array", "items": _object({"field": _STRING, "detail": _STRING})},
            "retry_after": {"type": "integer", "description": "Seconds."},
        },
        required=["type", "title", "status", "detail"],
    ),
}

STANDING: Final[Described] = {
    "FTWallet-LSN": {
        "schema": {"type": "integer"},
        "required": True,
        "description": "Number of the transaction's record in the log; for a read, of the last record that it saw.",
    },
    "FTWallet-Epoch": {"schema": {"type": "integer"}, "required": True},
    "FTWallet-Durability": {
        "schema": {"enum": ["replicated", "solo"]},
        "required": True,
        "description": "Whether the log was on both nodes when this was answered.",
    },
}
REPLAYED: Final[Described] = {
    "Idempotent-Replayed": {
        "schema": {"const": "true"},
        "description": "There when the transaction had been asked for before.",
    }
}
RETRY_AFTER: Final[Described] = {"Retry-After": {"schema": {"type": "integer"}, "required": True}}
