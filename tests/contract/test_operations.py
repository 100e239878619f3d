"""Operations of the services' OpenAPI documents, as generators of clients see them."""

import re
from typing import Any

from slipstream.contracts.services import SERVICES
from slipstream_cli.commands.openapi import app_of
from tests.contract.record_operations import RECORDED, operations


def test_each_operation_of_a_service_has_an_id_of_its_own_that_is_a_name() -> None:
    ids = [tuple(line.split()[:2]) for line in operations()]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[a-z][a-z_]*[a-z]", name) for _, name in ids)


def test_ids_are_as_recorded() -> None:
    """New routes are recorded by `python -m tests.contract.record_operations`."""
    assert operations() == RECORDED.read_text().splitlines()


# Answers that are no JSON of one shape: bytes, lines of JSON, or nothing.
UNTYPED = {
    "features export_user",
    "features feast_health",
    "features get_catalog",
    "features get_logged_slates",
    "monitoring export_visitors",
    "monitoring sign_out",
    "training get_file",
}


def test_every_answer_names_its_fields() -> None:
    """An answer without a schema is `any` in a generated client."""
    untyped = {
        f"{service} {operation['operationId']}"
        for service in SERVICES
        for methods in app_of(service).openapi()["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if status.startswith("2") and not any(map(is_typed, answer.get("content", {}).values()))
    }
    assert untyped == UNTYPED


def test_every_schema_has_one_name() -> None:
    """One that differs between input and output gets two, and makers of clients keep neither."""
    names = [
        name for service in SERVICES for name in app_of(service).openapi()["components"]["schemas"]
    ]
    assert not [name for name in names if name.endswith(("-Input", "-Output"))]


def is_typed(content: dict[str, Any]) -> bool:
    schema = content.get("schema", {})
    return "$ref" in schema.get("items", schema) or schema.get("type") == "string"
