"""Endpoints under /fedml (contract, section 4)."""

from __future__ import annotations

import base64

from flask import Blueprint, Response, request

from gramian.domain.protocol.redemption import MAX_REQUEST_BYTES
from gramian.errors import InvalidRequest
from gramian.http.auth import read_only, unsigned
from gramian.http.envelope import respond
from gramian.http.request import FlatMap, current, read_body
from gramian.http.views import job_created, node, string_list
from gramian.usecases import jobs
from gramian.usecases.federation import (
    control,
    explore,
    found,
    gpu,
    inventory,
    invite,
    journal,
    line,
    members,
    membership,
)
from gramian.usecases.federation import join as joining
from gramian.usecases.federation.requests import flag, text_of
from gramian.usecases.projects import lifecycle

SYNC_WAIT_S = 20.0

blueprint = Blueprint("federation", __name__, url_prefix="/symetry/rest/<cid>/fedml")


@blueprint.post("/create")
def create(cid: str) -> Response:
    """Found a federation; the body is a sealed map."""
    call = current()
    values = call.opened_map()
    pid = call.query("pid") or text_of(values, "pid")
    if not pid:
        raise InvalidRequest("the query parameter pid is missing")
    found.create(node(), cid, pid, values, persist=_persist(values))
    return respond("CREATED", f"Project Created with id:{pid}")


@blueprint.post("/createJoin")
def create_join(cid: str) -> Response:
    """Join with an opened invitation, sent as a sealed map with the node's own keys added."""
    call = current()
    values = call.opened_map()
    joining.join(node(), cid, call.query("pid") or text_of(values, "pid"), values, persist=_persist(values))
    return respond("CREATED", "Fed Project created with join")


@blueprint.post("/<pid>/getInvitation")
@blueprint.post("/<pid>/getEncrypted")
def get_invitation(cid: str, pid: str) -> Response:
    """One invitation for one peer, sealed with the password in the body."""
    call = current()
    values = call.opened_map()
    password = text_of(values, "passwd")
    if not password:
        raise InvalidRequest("passwd is needed: the password that the invitation is sealed with")
    made = invite.invite(node(), cid, pid, values, default_host=request.root_url)
    sealed = call.seal_invitation(made.to_map(), password)
    return respond(values={"fedInfoEncrypted": sealed, "encryptedGroupInfo": sealed})


@blueprint.post("/<pid>/createPolicies")
@unsigned
def create_policies(cid: str, pid: str) -> Response:
    """Redeem an invitation: called by the joining node, which the seal of the body authenticates."""
    body = read_body(MAX_REQUEST_BYTES)
    reply = invite.redeem(node(), cid, pid, body, request.remote_addr or "")
    return respond(values={"fedRedemption": base64.b64encode(reply).decode()})


@blueprint.get("/<pid>/info")
@read_only
def info(cid: str, pid: str) -> Response:
    """The federation as this node knows it; the map is sealed for the user."""
    return respond(values={"fedInfoEncrypted": current().seal_reply(control.info(node(), cid, pid))})


@blueprint.get("/<pid>/startPulse")
def start_pulse(cid: str, pid: str) -> Response:
    """Sync on the federation's schedule from now on, and once at once."""
    control.start_pulse(node(), cid, pid)
    return respond()


@blueprint.get("/<pid>/stopPulse")
def stop_pulse(cid: str, pid: str) -> Response:
    """Sync on request only."""
    control.stop_pulse(node(), cid, pid)
    return respond()


@blueprint.get("/<pid>/newSchedule")
def new_schedule(cid: str, pid: str) -> Response:
    """Admin: another schedule for every member."""
    control.new_schedule(node(), cid, pid, current().need("newSchedule"))
    return respond()


@blueprint.get("/<pid>/setExplorePeers")
def set_explore_peers(cid: str, pid: str) -> Response:
    """Whether the other members may explore this node's own summary."""
    current().need("allowExplore")
    explore.allow(node(), cid, pid, allowed=current().flag("allowExplore", default=True))
    return respond()


@blueprint.get("/<pid>/fullSyncRequest")
def full_sync(cid: str, pid: str) -> Response:
    """Sync now: answers when this node's own pass is over; the others are nudged.

    Where another process syncs, it is waited for 20 seconds, and answered with its job if it takes longer. A machine
    with a GPU is not waited for.
    """
    project = lifecycle.find(node(), cid, pid)
    if gpu.is_elsewhere(node(), project):
        return job_created(gpu.pulse(node(), project, nudge=True))
    if not node().settings.sync_jobs:
        from gramian.usecases.federation import pulse

        pulse.run(node(), cid, pid, nudge_others=True)
        return respond()
    number = control.sync(node(), cid, pid)
    job = jobs.wait(node(), cid, number, SYNC_WAIT_S)
    if not job.is_done:
        return job_created(number)
    return respond("BAD_REQUEST", job.error) if job.error else respond()


@blueprint.post("/<pid>/evict")
def evict(cid: str, pid: str) -> Response:
    """Admin: exclude the member `peer` from now on."""
    advice = members.evict(node(), cid, pid, current().need("peer"))
    return respond(values={"string": advice})


@blueprint.post("/<pid>/setTransport")
def set_transport(cid: str, pid: str) -> Response:
    """Another login or address for this node; the body is a sealed map of the options that change."""
    line.change(node(), cid, pid, current().opened_map())
    return respond()


@blueprint.post("/<pid>/leave")
def leave(cid: str, pid: str) -> Response:
    """Take this node's statistics out of the federation."""
    members.leave(node(), cid, pid)
    return respond()


@blueprint.get("/<pid>/getErrorLog")
@read_only
def get_error_log(cid: str, pid: str) -> Response:
    """What went wrong, one line each."""
    return string_list(journal.error_lines(node(), membership.load(node(), cid, pid).project))


@blueprint.delete("/<pid>/clearErrorLog")
def clear_error_log(cid: str, pid: str) -> Response:
    """Empty the error log."""
    journal.clear_errors(node(), membership.load(node(), cid, pid).project)
    return respond()


@blueprint.get("/<pid>/getSyncLog")
@read_only
def get_sync_log(cid: str, pid: str) -> Response:
    """What was sent and taken in, one line for each sync."""
    return string_list(journal.sync_lines(node(), membership.load(node(), cid, pid).project))


@blueprint.get("/<pid>/syncStats")
@read_only
def sync_stats(cid: str, pid: str) -> Response:
    """Counts of what was sent, taken in and refused, and both logs."""
    return respond(values={"fedSyncStats": control.sync_stats(node(), cid, pid)})


@blueprint.post("/awsinfo")
def aws_info(cid: str) -> Response:
    """What an AWS account holds of SNS and SQS, looked up by a job; the body is a sealed map."""
    return job_created(inventory.submit(node(), cid, current().opened_map()))


@blueprint.post("/<pid>/awsinfo")
def aws_info_of_project(cid: str, pid: str) -> Response:
    """The same: accounts have nothing to do with projects, but the contract's path names one."""
    lifecycle.find(node(), cid, pid)
    return aws_info(cid)


def _persist(values: FlatMap) -> bool:
    """From the query or the body; true unless said otherwise."""
    default = flag(values, "persist") if "persist" in values else True
    return current().flag("persist", default=default)
