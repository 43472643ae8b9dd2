"""What the blueprints share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import Response, current_app, request

from gramian.http import replay
from gramian.http.app import NODE
from gramian.http.envelope import respond
from gramian.http.request import current
from gramian.node import Node


def node() -> Node:
    found: Node = current_app.config[NODE]
    return found


def string_list(values: Iterable[str]) -> Response:
    """The contract's StringList."""
    return respond(values={"stringList": {"values": list(values)}})


def job_created(number: int) -> Response:
    """202 with the job's place in `Location` and its number in `sym-job-id`."""
    place = f"{request.root_url.rstrip('/')}/symetry/rest/{current().cid}/jobs/{number}"
    return respond("ACCEPTED", "Job Created", headers={"Location": place, "sym-job-id": str(number)})


def once(pid: str, endpoint: str, run: Callable[[str | None], Response]) -> Response:
    """Run with an operation id if the client sent an Idempotency-Key, so that its retries do not apply twice."""
    here = node()
    return replay.idempotent(
        here.tokens,
        here.clock,
        current().cid,
        pid,
        endpoint,
        run,
        instance=here.instance,
        instance_alive=here.instance_alive,
    )
