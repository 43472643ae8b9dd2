"""The OpenAPI document says what the server does: every route, no other, and nothing else in the written copy."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from werkzeug.routing import Rule

from gramian.domain.names import check_id
from gramian.errors import InvalidRequest
from gramian.http import errors, openapi, openapi_parts
from gramian.http.app import all_blueprints

COPY = Path(__file__).parents[3] / "docs" / "openapi.json"
REGENERATE = "python -m gramian.http.openapi > docs/openapi.json"


@pytest.fixture(scope="module")
def app() -> Flask:
    made = Flask("gramian", static_folder=None)
    for each in all_blueprints():
        made.register_blueprint(each)
    errors.register(made)
    return made


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    return openapi.document(app)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def routes(app: Flask) -> Iterator[tuple[str, Rule]]:
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            yield method, rule


def test_table_has_an_entry_for_every_view_and_no_other(app: Flask) -> None:
    """Whoever adds or removes an endpoint is told here."""
    assert {rule.endpoint for _, rule in routes(app)} == openapi.OPERATIONS.keys()


def test_document_has_every_route_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    """Paths and methods are those of the application."""
    described = {(method.upper(), path) for path, method, _ in operations(document)}
    served = {(method, re.sub("<(.+?)>", r"{\1}", rule.rule)) for method, rule in routes(app)}
    assert described == served


def test_every_view_says_what_it_does(app: Flask) -> None:
    """Summaries are the first lines of docstrings."""
    views = {rule.endpoint: app.view_functions[rule.endpoint] for _, rule in routes(app)}
    assert [name for name, view in views.items() if not inspect.getdoc(view)] == []


def test_written_copy_is_what_the_code_gives_now() -> None:
    """The copy in docs/ follows the code."""
    assert COPY.read_text() == openapi.text(), f"docs/openapi.json is out of date: {REGENERATE}"


def test_document_is_valid_and_its_operations_can_be_read(document: dict[str, Any]) -> None:
    """Valid OpenAPI, every reference resolves, ids of operations are unique."""
    loaded = schemathesis.openapi.from_dict(document)
    loaded.validate()
    read = [result.ok() for result in loaded.get_all_operations()]
    assert len(read) == len(list(operations(document)))
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(read)


def test_every_parameter_of_the_table_is_used(document: dict[str, Any]) -> None:
    """No description outlives its parameter."""
    used = {parameter["name"] for _, _, operation in operations(document) for parameter in operation["parameters"]}
    assert used == openapi_parts.PARAMETERS.keys()


def test_every_entity_is_used(document: dict[str, Any]) -> None:
    """No entity outlives the endpoint that had it."""
    named = set(re.findall('"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named == document["components"]["schemas"].keys()


def test_only_what_needs_no_user_is_described_as_unsigned(document: dict[str, Any]) -> None:
    """The document claims no way around the signature."""
    unsigned = {operation["operationId"] for _, _, operation in operations(document) if operation.get("security") == []}
    assert unsigned == {"federation.create_policies", "openapi.serve"}


@pytest.mark.parametrize("text", ["a", "A.b-c@d+e", "_", "a" * 128, "", ".a", "a/b", "a b", "a\n", "é", "a" * 129])
def test_pattern_of_ids_is_that_of_the_server(text: str) -> None:
    """What the document calls an id is one."""
    pattern = openapi_parts.PARAMETERS["pid"][2]["pattern"].removesuffix("$") + r"\Z"
    try:
        check_id("pid", text)
    except InvalidRequest:
        assert re.search(pattern, text) is None
    else:
        assert re.search(pattern, text)


def test_document_is_served_unsigned_and_cacheable(app: Flask, document: dict[str, Any]) -> None:
    """Anybody may read it, and need not read it twice."""
    client = app.test_client()
    first = client.get("/openapi.json")
    assert (first.status_code, first.mimetype, first.get_json()) == (200, "application/json", document)
    assert first.headers["Cache-Control"] == "public, max-age=3600"
    again = client.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_route_costs_nothing_until_it_is_used() -> None:
    """Mounting the description imports none of its parts, and numpy not at all."""
    code = (
        "import sys, gramian.http.openapi\n"
        "print([name for name in ('numpy', 'gramian.http.openapi_parts') if name in sys.modules])\n"
        "import gramian.http.openapi_parts\n"
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
