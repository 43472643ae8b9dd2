"""Endpoints under /projects that manage projects and their rows (contract, section 6)."""

from __future__ import annotations

import logging

from flask import Blueprint, Response

from gramian.domain import frame as frames
from gramian.http.auth import read_only
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.http.views import job_created, node, once, string_list
from gramian.usecases import removal
from gramian.usecases.projects import batches, describe, lifecycle
from gramian.usecases.projects.lifecycle import Project

log = logging.getLogger(__name__)
blueprint = Blueprint("projects", __name__, url_prefix="/symetry/rest/<cid>/projects")


@blueprint.post("")
def create(cid: str) -> Response:
    """Make an empty project."""
    call = current()
    pid, kind = call.need("pid"), call.query("type") or "cpu"
    persist = call.flag("persist", default=True)
    if call.flag("enableHistogram", default=False):
        log.info("histograms are not available yet: project %s is created without", pid)
    lifecycle.create(node(), cid, pid, kind=kind, persist=persist, options=call.plain_map())
    return respond("CREATED", f"Project Created with id:{pid}")


@blueprint.get("/list")
@read_only
def listed(cid: str) -> Response:
    """The ids of all projects of the user."""
    return string_list(lifecycle.listed(node(), cid))


@blueprint.get("/<pid>/info")
@read_only
def info(cid: str, pid: str) -> Response:
    """Attributes and models of a project, and how its federation stands."""
    return respond(values={"smlInfo": describe.info(node(), lifecycle.find(node(), cid, pid))})


@blueprint.delete("/<pid>")
def delete(cid: str, pid: str) -> Response:
    """Delete a project; a federated one leaves its federation."""
    removal.delete(node(), cid, pid)
    return respond(text=f"deleted Project with id[{pid}] from Customer[{cid}] store")


@blueprint.post("/<pid>/learn")
def learn(cid: str, pid: str) -> Response:
    """Add rows to the statistics; attributes that are new are added too."""
    return _change(lifecycle.find(node(), cid, pid), "learn")


@blueprint.post("/<pid>/forget")
def forget(cid: str, pid: str) -> Response:
    """Take rows out of the statistics again."""
    return _change(lifecycle.find(node(), cid, pid), "forget")


def _change(project: Project, kind: str) -> Response:
    """Now, or with `async=true` as a job; at most once per Idempotency-Key."""
    here, call = node(), current()
    later, frame = call.flag("async", default=False), frames.decode(call.body)

    def run(operation: str | None) -> Response:
        if later or batches.wants_gpu(here, project, kind, call.body):
            return job_created(batches.submit(here, project, kind, call.body, operation))
        from gramian.usecases.projects import rows

        change = {"learn": rows.learn, "forget": rows.forget}[kind]
        change(here, project, frame, operation)
        return respond()

    return once(project.pid, kind, run)
