"""What the function `pulse` does: due pulses, and syncs that somebody waits for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gramian.errors import InvalidRequest
from gramian.node import Node
from gramian.ports import Delete
from gramian.usecases import records
from gramian.usecases.federation import gpu
from gramian.usecases.projects import lifecycle
from gramian_aws.lambda_jobs import run_job

log = logging.getLogger(__name__)
PARTITION: Final = "pulses"


class Good(msgspec.Struct, frozen=True):
    """When a project last pulsed well, or was first seen pulsing (unix seconds)."""

    at: int


def pulse(node: Node, event: Mapping[str, Any]) -> None:
    """`{cid, pid}`: a due pulse; `{cid, number}`: the job of a sync."""
    from gramian.usecases.federation import pulse as pulses

    if "number" in event:
        run_job(node, event)
        return
    cid, pid = str(event["cid"]), str(event["pid"])
    was_good = _was_good(node, cid, pid)
    pulses.scheduled(node, cid, pid)
    if was_good:
        note_good(node, cid, pid)


def _was_good(node: Node, cid: str, pid: str) -> bool:
    """Of a pulse that a job makes elsewhere, what became of the last one; of any other, that it raises nothing."""
    try:
        project = lifecycle.find(node, cid, pid)
    except InvalidRequest:
        return True
    return not gpu.is_elsewhere(node, project) or gpu.went_well(node, project)


def note_good(node: Node, cid: str, pid: str) -> None:
    node.state.write(records.put(PARTITION, f"{cid}/{pid}", Good(int(node.clock())), "*"))


def last_good(node: Node) -> dict[str, int]:
    """When each project that ever pulsed here last did so well, by `cid/pid` (unix seconds)."""
    return {key: stored.record.at for key, stored in records.listed(node.state, PARTITION, "", Good).items()}


def forget(node: Node, key: str) -> None:
    node.state.write(Delete(PARTITION, key))
