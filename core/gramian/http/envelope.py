"""The contract's answer to everything (section 2.1): statusCode, statusString, values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, request
from werkzeug.http import parse_accept_header, parse_options_header

from gramian.domain import jsonio

STATUS = {
    "OK": 200,
    "CREATED": 201,
    "ACCEPTED": 202,
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "REQUEST_ENTITY_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "TOO_MANY_REQUESTS": 429,
    "INTERNAL_SERVER_ERROR": 500,
    "SERVICE_UNAVAILABLE": 503,
}
"""The names that clients compare, with their HTTP statuses."""


def respond(
    status_code: str = "OK",
    text: str = "OK",
    values: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The envelope for the current request. `status_code` is a key of STATUS; `values` are plain Python."""
    envelope = {"statusCode": status_code, "statusString": text, "values": values or {}}
    response = Response(
        jsonio.dumps(envelope, strict=wants_strict_json()), STATUS[status_code], mimetype="application/json"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(headers or {})
    return response


def wants_strict_json() -> bool:
    """Whether the client sent `Accept: application/json; strict=1`: null instead of bare NaN and Infinity."""
    accept = request.headers.get("Accept", "")
    if "strict" not in accept.lower():
        return False
    for value, quality in parse_accept_header(accept):
        mimetype, options = parse_options_header(value)
        if mimetype.lower() == "application/json" and options.get("strict") == "1" and quality > 0:
            return True
    return False
