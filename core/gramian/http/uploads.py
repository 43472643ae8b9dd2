"""Endpoints under /projects/{pid}/uploads: files of rows that are too large for a request body."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, request

from gramian.domain import jsonio, typed
from gramian.errors import InvalidRequest
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.http.views import job_created, node
from gramian.usecases.projects import lifecycle, uploads

blueprint = Blueprint("uploads", __name__, url_prefix="/symetry/rest/<cid>/projects")


@blueprint.post("/<pid>/uploads")
def create(cid: str, pid: str) -> Response:
    """Make place for a file of `size` bytes; the answer says where to PUT it, once, within an hour.

    Rows are learned by another call when the file is there. CSV: UTF-8, comma-separated, names in the first line; empty
    and `NaN` cells are missing. Parquet: columns of numbers and booleans. JSON: a DataFrame, 64 MiB at most.
    """
    call = current()
    size = call.need("size")
    if not (size.isascii() and size.isdigit() and len(size) <= 18):
        raise InvalidRequest("the query parameter size must be the number of bytes of the file")
    project = lifecycle.find(node(), cid, pid)
    made = uploads.create(node(), project, call.need("format").lower(), int(size))
    url = made.ticket.url
    about = {
        "id": made.id,
        "method": "PUT",
        "url": request.root_url.rstrip("/") + url if url.startswith("/") else url,
        "headers": dict(made.ticket.headers),
        "expirationDate": made.expires_at * 1000,
    }
    return respond("CREATED", f"Upload created with id:{made.id}", {"upload": about})


@blueprint.post("/<pid>/uploads/<upload>/learn")
def learn(cid: str, pid: str, upload: str) -> Response:
    """Learn a file that has arrived, in a job: all of its rows, or none if one of them cannot be used.

    The body may give types by name, and columns that it leaves out are ignored. Without it, attributes of the project
    keep their types, and for others the first 1,000 rows tell: B if every value is 0 or 1, C if every value is a
    number, else X. Repeated, it leads to the same job, unless that failed: then another one goes on where it stopped.
    """
    project = lifecycle.find(node(), cid, pid)
    return job_created(uploads.learn(node(), project, upload, _columns(current().body)))


@blueprint.delete("/<pid>/uploads/<upload>")
def delete(cid: str, pid: str, upload: str) -> Response:
    """Forget an upload; what was learned of it stays."""
    uploads.delete(node(), lifecycle.find(node(), cid, pid), upload)
    return respond()


def _columns(body: bytes) -> uploads.Columns | None:
    value = jsonio.loads(body) if body else None
    if not value:
        return None
    try:
        return typed.convert(value, uploads.Columns)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"the body must be empty, or hold attributeNames and attributeTypes, and nothing else: {error}"
        ) from None
