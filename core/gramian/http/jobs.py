"""Endpoints under /jobs (contract, section 8.5)."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from gramian.errors import InvalidRequest
from gramian.http.auth import read_only
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.http.views import node
from gramian.usecases import jobs
from gramian.usecases.federation import inventory

_SEALED = {inventory.ENTITY: "awsInfoEncrypted"}
"""Entities of answers that the contract seals, and what they are called then."""

blueprint = Blueprint("jobs", __name__, url_prefix="/symetry/rest/<cid>/jobs")


@blueprint.get("")
@read_only
def listed(cid: str) -> Response:
    """All jobs of the user of the last seven days."""
    found = jobs.listed(node(), cid)
    return respond(values={"jobinfoList": {"values": [_info(cid, number, job) for number, job in found.items()]}})


@blueprint.get("/<number>")
@read_only
def find(cid: str, number: str) -> Response:
    """How a job stands: 200 with what it found when finished, 202 while running, 400 with the reason if it failed."""
    number_ = _number(number)
    job = jobs.find(node(), cid, number_)
    about = {"jobinfo": _info(cid, number_, job)}
    if not job.is_done:
        return respond("ACCEPTED", "Job still running", about)
    if job.error:
        return respond("BAD_REQUEST", f"Job failed: {job.error}", about)
    return respond(text="Job is finished", values=_answer(job))


@blueprint.delete("/<number>")
def delete(cid: str, number: str) -> Response:
    """Forget a finished job; 202 for one that runs, which cannot be killed."""
    if jobs.delete(node(), cid, _number(number)):
        return respond(text="Job deleted")
    return respond("ACCEPTED", "Job still running and cannot be killed")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidRequest("No such job")
    return int(text)


def _answer(job: jobs.Job) -> dict[str, object]:
    found = msgspec.json.decode(job.answer, type=dict[str, object])
    return {
        _SEALED.get(name, name): current().seal_reply(entity) if name in _SEALED else entity  # type: ignore[arg-type]
        for name, entity in found.items()
    }


def _info(cid: str, number: int, job: jobs.Job) -> dict[str, object]:
    details = {"error": job.error, "progress": job.progress.text}
    return {
        "jobId": number,
        "jobType": job.kind,
        "owner": cid,
        "startingDate": job.started_at,
        "current": job.progress.of if job.is_done and not job.error else job.progress.done,
        "maximum": job.progress.of,
        "isOnBoundedExecutor": True,
        "isStarted": job.is_started,
        "isDone": job.is_done,
        "details": {key: text for key, text in details.items() if text},
    }
