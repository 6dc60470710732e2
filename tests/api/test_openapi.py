"""The OpenAPI document is whole and true: its examples fit its schemas, and no request that it describes surprises."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from ftwallet.api.app import build_app, declared_app
from ftwallet.api.handlers import Handlers
from tests.api.stand_ins import MemoryWallet

DOCUMENT = declared_app(Handlers(MemoryWallet()), 16_384).openapi()
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", build_app(MemoryWallet()))
CALLS = {
    ("/deposit", "post"): {"200", "400", "413", "422", "500", "503"},
    ("/withdraw", "post"): {"200", "400", "404", "413", "422", "500", "503"},
    ("/transfer", "post"): {"200", "400", "404", "413", "422", "500", "503"},
    ("/holds", "post"): {"200", "400", "404", "413", "422", "500", "503"},
    ("/holds/{hold_id}/capture", "post"): {"200", "400", "404", "409", "413", "422", "500", "503"},
    ("/holds/{hold_id}/release", "post"): {"200", "404", "409", "413", "422", "500", "503"},
    ("/holds/{hold_id}", "get"): {"200", "404", "422", "500", "503"},
    ("/accounts/{account_id}", "get"): {"200", "404", "422", "500", "503"},
    ("/balance", "post"): {"200", "404", "413", "422", "500", "503"},
    ("/transactions", "post"): {"200", "400", "409", "413", "422", "500", "503"},
    ("/transactions/{transaction_id}", "get"): {"200", "404", "422", "500", "503"},
    ("/health", "get"): {"200", "503"},
}


def _contents() -> list[Any]:
    """Every (name, media type object) of the document."""
    found = []
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            parts = {"request": operation["requestBody"]} if "requestBody" in operation else {}
            for name, part in {**parts, **operation["responses"]}.items():
                found += [pytest.param(content, id=f"{path} {name}") for content in part["content"].values()]
    return found


def test_every_call_declares_every_status_that_it_answers() -> None:
    declared = {
        (path, method): set(operation["responses"])
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert declared == CALLS


@pytest.mark.parametrize("content", _contents())
def test_every_example_fits_its_schema(content: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for({**content["schema"], "components": DOCUMENT["components"]})
    assert content["examples"]
    for example in content["examples"].values():
        validator.validate(example["value"])


@SCHEMA.parametrize()
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_document_describes_is_what_the_wallet_does(case: Any) -> None:
    """JSON Schema cannot say which characters are printable, nor that header and field must agree.

    In a batch each operation is judged for itself, so one that breaks the schema is told so in a 200.
    """
    excluded = [positive_data_acceptance]
    if case.path == "/transactions":
        excluded.append(negative_data_rejection)
    case.call_and_validate(excluded_checks=excluded)
