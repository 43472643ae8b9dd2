"""Nodes that compute on a GPU (`fed_local_type=gpu`). Imports no numpy.

Where this process has none, `settings.gpu_jobs` names a runner whose machines have one. A node has one such job at a
time: a pulse that is due meanwhile is skipped, since the next one does its work, and a large learn is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from gramian.errors import Busy, ConditionFailed, InvalidRequest
from gramian.node import Node
from gramian.ports import Write
from gramian.usecases import job_records, jobs, records
from gramian.usecases.federation import journal
from gramian.usecases.projects import lifecycle
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import FEDERATION, TURN

log = logging.getLogger(__name__)
COMPUTE = "cupy"
"""The compute plugin of a process that has a GPU itself."""
LARGE_BATCH_BYTES = 2**20
"""From here on a batch is worth the start of a machine."""
PULSE = "gpu_pulse"


class Pulse(msgspec.Struct, frozen=True):
    """What a job does. `nudge`: tell the other members to sync too."""

    nudge: bool = False


class Turn(msgspec.Struct, frozen=True):
    """The last job that a node had on a GPU."""

    number: int = 0


def is_available(node: Node) -> bool:
    """Whether this node can have work done on a GPU."""
    return bool(node.settings.gpu_jobs) or node.settings.compute == COMPUTE


def is_elsewhere(node: Node, project: Project) -> bool:
    """Whether the project's work goes to a job on a machine that has a GPU."""
    if not (project.record.federated and node.settings.gpu_jobs):
        return False
    stored = records.load(node.state, project.partition, FEDERATION, records.Federation)
    return stored is not None and stored.record.local_type == "gpu"


def submit(
    node: Node,
    project: Project,
    kind: str,
    arguments: msgspec.Struct,
    *,
    body: bytes = b"",
    operation: str | None = None,
    elsewhere: bool = True,
) -> int:
    """As `jobs.submit`; if `elsewhere`, on a GPU, and only if no other job of the node is there: raises Busy."""
    if not elsewhere:
        return jobs.submit(node, project.cid, kind, arguments, project=project, body=body, operation=operation)
    try:
        return jobs.submit(
            node,
            project.cid,
            kind,
            arguments,
            project=project,
            body=body,
            operation=operation,
            runner=jobs.GPU,
            also=_take_turn(node, project),
        )
    except ConditionFailed as error:
        raise Busy("another job of this node has just got the GPU; try again when it is done") from error


def pulse(node: Node, project: Project, *, nudge: bool = False) -> int:
    """Have a pulse made on a GPU; returns its job's number, or that of the job that is there already."""
    under_way = running(node, project)
    if under_way is None:
        try:
            return submit(node, project, PULSE, Pulse(nudge))
        except Busy:
            under_way = running(node, project)
            if under_way is None:
                raise
    text = f"Sync skipped: job {under_way} of this node is still on the GPU"
    log.info("%s/%s: %s", project.cid, project.pid, text)
    journal.sync(node, project, text, repeat=False)
    return under_way


def run(task: jobs.Task) -> None:
    """The job of a pulse."""
    from gramian.usecases.federation import pulse as pulses

    pulses.run(task.node, task.cid, task.project().pid, nudge_others=task.arguments(Pulse).nudge)


def work(node: Node, cid: str, pid: str) -> str:
    """What a machine with a GPU does for a node: the job that waits for it, else a pulse. Returns what failed, if any.

    Raises InvalidRequest for an unknown project, and what a pulse raises.
    """
    project = lifecycle.find(node, cid, pid)
    number = _turn(node, project).record.number
    # Its runner is not asked how the job stands: this is the process that it has started.
    if not number or not _waits(node, cid, number):
        from gramian.usecases.federation import pulse as pulses

        pulses.run(node, cid, pid)
        return ""
    jobs.execute(node, cid, number)
    return jobs.find(node, cid, number).error


def running(node: Node, project: Project) -> int | None:
    """The job of the node that waits for a GPU or has one."""
    number = _turn(node, project).record.number
    return number if number and _is_under_way(node, project, number) else None


def went_well(node: Node, project: Project) -> bool:
    """Whether the node's last job on a GPU is done and has not failed; so it is before the first."""
    number = _turn(node, project).record.number
    try:
        job = jobs.find(node, project.cid, number) if number else None
    except InvalidRequest:  # forgotten since
        job = None
    return job is None or (job.is_done and not job.error)


def _take_turn(node: Node, project: Project) -> Callable[[int], Sequence[Write]]:
    def take(number: int) -> Sequence[Write]:
        last = _turn(node, project)
        if last.record.number and _is_under_way(node, project, last.record.number):
            raise Busy(f"job {last.record.number} of this node is on the GPU; try again when it is done")
        return [records.put(project.partition, TURN, Turn(number), last.version)]

    return take


def _turn(node: Node, project: Project) -> records.Stored[Turn]:
    return records.load_or(node.state, project.partition, TURN, Turn())


def _waits(node: Node, cid: str, number: int) -> bool:
    try:
        return not job_records.load(node.state, cid, number).record.is_done
    except InvalidRequest:
        return False


def _is_under_way(node: Node, project: Project, number: int) -> bool:
    try:
        return not jobs.find(node, project.cid, number).is_done
    except InvalidRequest:
        return False
