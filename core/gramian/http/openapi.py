"""The OpenAPI 3.1 document of this server, made from its routes and views and served at `/openapi.json`.

Paths, methods and texts come from the application, and OPERATIONS adds what views do not say by themselves.
`python -m gramian.http.openapi > docs/openapi.json` writes the copy for readers without a server.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flask import Blueprint, Flask, Response, request
from werkzeug.routing import Rule

from gramian import __version__
from gramian.http.auth import unsigned

JsonObject: TypeAlias = dict[str, Any]

MAX_AGE_S = 3600
_JSON = "application/json"
_IN_PATH = re.compile("<([^>]+)>")
_OLD_NAMES = frozenset(("getEncrypted",))

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
@unsigned
def serve() -> Response:
    """This document."""
    # Of the contract's endpoints, though the application may have others, as for uploads whose addresses it gives out.
    response = Response(json.dumps(contract()), mimetype=_JSON)
    response.headers["Cache-Control"] = f"public, max-age={MAX_AGE_S}"
    response.add_etag()
    response.make_conditional(request)
    return response


@dataclass(frozen=True, slots=True)
class Operation:
    """What a view takes and answers: `needs` and `takes` name parameters, `body` and `values` entities.

    `status`: those of success. `sealed`: the body is sealed with the user's key. `values` are None where the answer is
    no envelope.
    """

    status: tuple[int, ...] = (200,)
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    body: str = ""
    sealed: bool = False
    body_required: bool = True
    values: Mapping[str, str] | None = field(default_factory=dict)


OPERATIONS: dict[str, Operation] = {
    "federation.create": Operation((201,), ("pid",), ("persist",), "FederationWishes", sealed=True),
    "federation.create_join": Operation((201,), (), ("pid", "persist"), "OpenedInvitation", sealed=True),
    "federation.get_invitation": Operation(
        body="InvitationWishes", sealed=True, values={"fedInfoEncrypted": "text", "encryptedGroupInfo": "text"}
    ),
    "federation.create_policies": Operation(body="Redemption", values={"fedRedemption": "text"}),
    "federation.info": Operation(takes=("seal",), values={"fedInfoEncrypted": "text"}),
    "federation.start_pulse": Operation(),
    "federation.stop_pulse": Operation(),
    "federation.new_schedule": Operation(needs=("newSchedule",)),
    "federation.set_explore_peers": Operation(needs=("allowExplore",)),
    "federation.full_sync": Operation((200, 202)),
    "federation.evict": Operation(needs=("peer",), values={"string": "text"}),
    "federation.aws_info": Operation((202,), body="AwsAccount", sealed=True),
    "federation.aws_info_of_project": Operation((202,), body="AwsAccount", sealed=True),
    "federation.set_transport": Operation(body="TransportWishes", sealed=True),
    "federation.leave": Operation(),
    "federation.get_error_log": Operation(values={"stringList": "StringList"}),
    "federation.clear_error_log": Operation(),
    "federation.get_sync_log": Operation(values={"stringList": "StringList"}),
    "federation.sync_stats": Operation(values={"fedSyncStats": "FedSyncStats"}),
    "projects.create": Operation((201,), ("pid",), ("type", "persist"), "ProjectOptions", body_required=False),
    "projects.listed": Operation(values={"stringList": "StringList"}),
    "projects.info": Operation(values={"smlInfo": "ProjectInfo"}),
    "projects.delete": Operation(),
    "projects.learn": Operation((200, 202), takes=("async", "Idempotency-Key"), body="DataFrame"),
    "projects.forget": Operation((200, 202), takes=("async", "Idempotency-Key"), body="DataFrame"),
    "uploads.create": Operation((201,), needs=("format", "size"), values={"upload": "Upload"}),
    "uploads.learn": Operation((202,), body="UploadColumns", body_required=False),
    "uploads.delete": Operation(),
    "models.build": Operation((202,), needs=("modelid", "algo"), body="MLContext"),
    "models.info": Operation(values={"modelInfo": "ModelInfo"}),
    "models.delete": Operation(),
    "models.predict": Operation(takes=("impute",), body="DataFrame", values={"KSVSMap": "KSVSMap"}),
    "jobs.listed": Operation(values={"jobinfoList": "JobInfoList"}),
    "jobs.find": Operation((200, 202), takes=("seal",), values={"jobinfo": "JobInfo", "awsInfoEncrypted": "text"}),
    "jobs.delete": Operation((200, 202)),
    "openapi.serve": Operation(values=None),
}
"""By Flask's name of the view."""
_SUCCESS = {200: "Done.", 201: "Created.", 202: "Accepted: a job does it, or has not ended."}


def document(app: Flask) -> JsonObject:
    """The document of an application whose views all stand in OPERATIONS."""
    from gramian.http import openapi_parts as parts

    paths: JsonObject = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            path = paths.setdefault(_IN_PATH.sub(r"{\1}", rule.rule), {})
            path[method.lower()] = _operation(rule, app.view_functions[rule.endpoint])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Gramian",
            "version": __version__,
            "description": parts.ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: [] for name in parts.SECURITY}],
        "tags": [{"name": name} for name in sorted(app.blueprints)],
        "paths": paths,
        "components": {
            "schemas": parts.schemas(),
            "responses": parts.responses(),
            "securitySchemes": parts.SECURITY,
        },
    }


def _operation(rule: Rule, view: Callable[..., Any]) -> JsonObject:
    known, last = OPERATIONS[rule.endpoint], rule.rule.rpartition("/")[2]
    summary, _, more = (inspect.getdoc(view) or "").partition("\n")
    described: JsonObject = {
        "operationId": f"{rule.endpoint}.{last}" if last in _OLD_NAMES else rule.endpoint,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": summary,
        "parameters": _parameters(rule, known),
        "responses": _responses(known),
    }
    if more.strip():
        described["description"] = more.strip()
    if last in _OLD_NAMES:
        described["deprecated"] = True
    if hasattr(view, "gramian_unsigned"):
        described["security"] = []
    if known.body:
        described["requestBody"] = _body(known)
    return described


def _parameters(rule: Rule, known: Operation) -> list[JsonObject]:
    from gramian.http.openapi_parts import PARAMETERS

    def parameter(name: str, required: bool, place: str = "") -> JsonObject:
        usual, description, schema = PARAMETERS[name]
        return {
            "name": name,
            "in": place or usual,
            "required": required,
            "description": description,
            "schema": schema,
        }

    in_path = [parameter(name, True, "path") for name in _IN_PATH.findall(rule.rule)]
    return in_path + [parameter(name, True) for name in known.needs] + [parameter(name, False) for name in known.takes]


def _body(known: Operation) -> JsonObject:
    from gramian.http.openapi_parts import ref

    entity = ref(known.body)
    if not known.sealed:
        return {"required": known.body_required, "content": {_JSON: {"schema": entity}}}
    # Once opened, the text is JSON: what these two keywords are for.
    text = {"type": "string", "minLength": 1, "contentMediaType": _JSON, "contentSchema": entity}
    return {
        "required": known.body_required,
        "description": f"{known.body}, sealed with the user's secret key.",
        "content": {"text/plain": {"schema": text}},
    }


def _responses(known: Operation) -> JsonObject:
    from gramian.http import openapi_parts as parts

    if known.values is None:
        return {"200": {"description": "Done.", "content": {_JSON: {"schema": {"type": "object"}}}}}
    content = {_JSON: {"schema": parts.envelope(known.values, always=len(known.status) == 1)}}
    successes = {str(status): {"description": _SUCCESS[status], "content": content} for status in known.status}
    return successes | parts.failures()


def contract() -> JsonObject:
    """The document of all endpoints."""
    from gramian.http.app import all_blueprints, bare_app

    return document(bare_app(all_blueprints()))


def text() -> str:
    """The same, for files."""
    return json.dumps(contract(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
