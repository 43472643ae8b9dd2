"""The one place where exceptions become answers."""

from __future__ import annotations

import logging

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gramian import errors
from gramian.http.envelope import STATUS, respond
from gramian.http.planned import is_planned

log = logging.getLogger(__name__)

# The first class that fits counts. Refusals by a peer or transport are the caller's to fix: it named them.
_CODES: tuple[tuple[type[errors.GramianError], str], ...] = (
    (errors.Unauthorized, "UNAUTHORIZED"),
    (errors.NotFound, "NOT_FOUND"),
    (errors.AlreadyExists, "CONFLICT"),
    (errors.TooLarge, "REQUEST_ENTITY_TOO_LARGE"),
    (errors.InvalidRequest, "BAD_REQUEST"),
    (errors.TransportError, "BAD_REQUEST"),
    (errors.Refused, "BAD_REQUEST"),
    (errors.Busy, "CONFLICT"),
    (errors.Unavailable, "SERVICE_UNAVAILABLE"),
    (errors.StoreError, "SERVICE_UNAVAILABLE"),
)
_NAMES = {http_status: name for name, http_status in STATUS.items()}


def register(app: Flask) -> None:
    """Answer every exception of `app`, also those of routing, with the envelope."""
    app.register_error_handler(Exception, answer)


def status_code_of(error: Exception) -> str:
    """The status name that `error` is answered with."""
    if isinstance(error, HTTPException):
        default = "INTERNAL_SERVER_ERROR" if (error.code or 500) >= 500 else "BAD_REQUEST"
        return _NAMES.get(error.code or 500, default)
    return next((code for kind, code in _CODES if isinstance(error, kind)), "INTERNAL_SERVER_ERROR")


def answer(error: Exception) -> Response:
    """The envelope for an exception. What is not the caller's fault is logged with its traceback, never shown."""
    code = status_code_of(error)
    if isinstance(error, HTTPException):
        return _answer_http(error, code)
    if code == "INTERNAL_SERVER_ERROR":
        _log(error)
        return respond(code, "Generic Exception")
    if isinstance(error, errors.StoreError):
        _log(error)
    if isinstance(error, errors.Unauthorized) and error.string_to_sign is not None:
        return respond(code, str(error), {"stringToSign": error.string_to_sign})
    assert isinstance(error, errors.GramianError), "_CODES has no other"
    return respond(code, errors.for_callers(error))


def _answer_http(error: HTTPException, code: str) -> Response:
    if code == "NOT_FOUND":
        planned = is_planned(request.path)
        return respond(
            code, "this endpoint is not available yet" if planned else "there is no such endpoint on this server"
        )
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(set(error.valid_methods) - {"HEAD", "OPTIONS"}))
        return respond(code, f"this endpoint answers {allowed} only", headers={"Allow": allowed})
    return respond(code, error.description or error.name)


def _log(error: Exception) -> None:
    log.error("%s %r failed", request.method, request.path, exc_info=error)
