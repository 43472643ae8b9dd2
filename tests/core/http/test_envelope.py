"""The envelope, and what becomes of exceptions."""

from __future__ import annotations

import json
import logging
import math

import pytest
from flask import Flask
from werkzeug.exceptions import BadRequest, RequestTimeout

from gramian import errors
from gramian.http.envelope import STATUS, respond
from gramian.http.errors import register, status_code_of


@pytest.fixture
def app() -> Flask:
    app = Flask("envelope")
    register(app)
    return app


def test_respond_default_is_contract_ok(app: Flask) -> None:
    """Byte by byte, as in the contract's samples."""
    with app.test_request_context():
        answer = respond()
    assert answer.get_data() == b'{"statusCode":"OK","statusString":"OK","values":{}}'
    assert (answer.status_code, answer.mimetype) == (200, "application/json")


def test_respond_created_with_headers(app: Flask) -> None:
    """A job's answer names its place twice."""
    with app.test_request_context():
        answer = respond("ACCEPTED", "Job Created", headers={"Location": "http://h/jobs/5", "sym-job-id": "5"})
    assert (answer.status_code, answer.headers["Location"], answer.headers["sym-job-id"]) == (
        202,
        "http://h/jobs/5",
        "5",
    )


@pytest.mark.parametrize(
    ("accept", "strict"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json; strict=1", True),
        ("text/html, Application/JSON ;strict=1;q=0.5", True),
        ("application/json;strict=0", False),
        ("application/json;strict=1;q=0", False),
        ("text/html;strict=1", False),
        (";;,=;\x00", False),
    ],
)
def test_respond_non_finite_by_accept_header(app: Flask, accept: str, strict: bool) -> None:
    """The contract's bare words unless strict JSON is asked for."""
    with app.test_request_context(headers={"Accept": accept}):
        answer = respond(values={"a": [math.inf, -math.inf, math.nan]})
    expected = b'{"a":[null,null,null]}' if strict else b'{"a":[Infinity,-Infinity,NaN]}'
    assert answer.get_data().endswith(b'"values":' + expected + b"}")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequest("x"), "BAD_REQUEST"),
        (errors.Unauthorized("x"), "UNAUTHORIZED"),
        (errors.NotFound("x"), "NOT_FOUND"),
        (errors.AlreadyExists("x"), "CONFLICT"),
        (errors.TooLarge("x"), "REQUEST_ENTITY_TOO_LARGE"),
        (errors.TransportUnavailable("x"), "BAD_REQUEST"),
        (errors.TransportRefused("x"), "BAD_REQUEST"),
        (errors.BadSeal("x"), "BAD_REQUEST"),
        (errors.Refused("x"), "BAD_REQUEST"),
        (errors.Unavailable("x"), "SERVICE_UNAVAILABLE"),
        (errors.Busy("x"), "CONFLICT"),
    ],
)
def test_answer_known_error_shows_its_text(app: Flask, error: Exception, code: str) -> None:
    """The text of these is written for the caller."""
    answer = raised(app, error)
    assert answer.json == {"statusCode": code, "statusString": "x", "values": {}}
    assert answer.status_code == STATUS[code]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.StoreError("private"), "SERVICE_UNAVAILABLE", "a store of this node is out of order, try again later"),
        (errors.BlobMissing("private"), "SERVICE_UNAVAILABLE", "a store of this node is out of order, try again later"),
        (errors.PluginError("private"), "INTERNAL_SERVER_ERROR", "Generic Exception"),
        (errors.GramianError("private"), "INTERNAL_SERVER_ERROR", "Generic Exception"),
        (ZeroDivisionError("private"), "INTERNAL_SERVER_ERROR", "Generic Exception"),
        (KeyError("private"), "INTERNAL_SERVER_ERROR", "Generic Exception"),
    ],
)
def test_answer_own_fault_is_logged_not_shown(app: Flask, caplog, error: Exception, code: str, text: str) -> None:
    """With its traceback, so that somebody can repair it."""
    answer = raised(app, error)
    assert (answer.json["statusCode"], answer.json["statusString"]) == (code, text)
    assert "private" not in answer.text
    assert "Traceback" in caplog.text


def test_answer_callers_fault_is_not_logged(app: Flask, caplog) -> None:
    """Its text may quote a row."""
    caplog.set_level(logging.DEBUG)
    raised(app, errors.InvalidRequest("row 1, attribute 'a': 'private' is not a number"))
    assert "private" not in caplog.text


def test_every_error_of_the_tree_has_an_answer() -> None:
    """A new class cannot be forgotten: it inherits a code or is a 500 on purpose."""
    own_faults = {errors.GramianError, errors.PluginError}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GramianError)]
    assert len(kinds) > 15
    for kind in kinds:
        assert (status_code_of(kind("x")) == "INTERNAL_SERVER_ERROR") == (kind in own_faults)


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "text"),
    [
        ("GET", "/nothing", 404, "NOT_FOUND", "there is no such endpoint on this server"),
        ("PUT", "/raise", 405, "METHOD_NOT_ALLOWED", "this endpoint answers POST only"),
    ],
)
def test_answer_routing_error_is_envelope(
    app: Flask, method: str, path: str, status: int, code: str, text: str
) -> None:
    """Also for what never reaches a handler."""
    app.post("/raise")(lambda: "")
    answer = app.test_client().open(path, method=method)
    assert (answer.status_code, answer.json["statusCode"], answer.json["statusString"]) == (status, code, text)
    assert answer.headers.get("Allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize("error", [BadRequest("which"), RequestTimeout("which")])
def test_answer_other_http_error_is_bad_request(app: Flask, error: Exception) -> None:
    """The contract has no names for most of them."""
    answer = raised(app, error)
    assert answer.json == {"statusCode": "BAD_REQUEST", "statusString": "which", "values": {}}
    assert answer.status_code == 400


def raised(app: Flask, error: Exception):
    def view() -> str:
        raise error

    app.post("/raise")(view)
    answer = app.test_client().post("/raise")
    assert list(json.loads(answer.text)) == ["statusCode", "statusString", "values"]
    return answer
