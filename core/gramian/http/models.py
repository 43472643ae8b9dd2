"""Endpoints under /projects that build and use models (contract, section 8).

What they call needs numpy, which a server that nobody asks for a model need not hold in memory.
"""

from __future__ import annotations

from flask import Blueprint, Response

from gramian.domain import frame as frames
from gramian.errors import InvalidRequest
from gramian.http.auth import read_only
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.http.views import job_created, node

blueprint = Blueprint("models", __name__, url_prefix="/symetry/rest/<cid>/projects")


@blueprint.post("/<pid>/build")
def build(cid: str, pid: str) -> Response:
    """Build a model, or build it anew, in a job."""
    from gramian.usecases.modeling import context, models

    call = current()
    if call.query("svdreduce"):
        raise InvalidRequest("svdreduce is not available yet; leave it out")
    wanted = context.parse(call.body)
    return job_created(models.build(node(), cid, pid, call.need("modelid"), call.need("algo"), wanted))


@blueprint.get("/<pid>/models/<mid>")
@read_only
def info(cid: str, pid: str, mid: str) -> Response:
    """What a model is of and how well it fits."""
    from gramian.usecases.modeling import models

    return respond(values={"modelInfo": models.info(node(), cid, pid, mid)})


@blueprint.delete("/<pid>/models/<mid>")
def delete(cid: str, pid: str, mid: str) -> Response:
    """Delete a model."""
    from gramian.usecases.modeling import models

    models.delete(node(), cid, pid, mid)
    return respond()


@blueprint.post("/<pid>/predict/<mid>")
@read_only
def predict(cid: str, pid: str, mid: str) -> Response:
    """Predictions for rows, under `res`."""
    from gramian.usecases.modeling import models

    call = current()
    if call.flag("impute", default=False):
        raise InvalidRequest("impute=true is not available yet; without it a missing value counts as the column's mean")
    predictions = models.predict(node(), cid, pid, mid, frames.decode(call.body))
    return respond(values={"KSVSMap": {"values": predictions}})
