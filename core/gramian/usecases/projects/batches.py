"""Learning and forgetting a batch in a job. Imports no numpy: the process that submits it needs none."""

from __future__ import annotations

from secrets import token_hex

import msgspec

from gramian.domain import frame as frames
from gramian.node import Node
from gramian.usecases import jobs
from gramian.usecases.federation import gpu
from gramian.usecases.projects.lifecycle import Project


class Batch(msgspec.Struct, frozen=True):
    """`operation`: under which the batch counts once, however often the job is run."""

    operation: str


def submit(node: Node, project: Project, kind: str, body: bytes, operation: str | None) -> int:
    """Have a DataFrame learned or forgotten (`kind`) in a job; returns its number. Raises Unavailable."""
    batch, elsewhere = Batch(operation or token_hex(16)), wants_gpu(node, project, kind, body)
    return gpu.submit(node, project, kind, batch, body=body, operation=operation, elsewhere=elsewhere)


def wants_gpu(node: Node, project: Project, kind: str, body: bytes) -> bool:
    """Whether a batch is to be learned on a GPU elsewhere, and therefore in a job."""
    return kind == "learn" and len(body) >= gpu.LARGE_BATCH_BYTES and gpu.is_elsewhere(node, project)


def learn(task: jobs.Task) -> None:
    """The job. Raises InvalidRequest."""
    from gramian.usecases.projects import rows

    rows.learn(task.node, task.project(), frames.decode(task.body()), task.arguments(Batch).operation)


def forget(task: jobs.Task) -> None:
    """The job. Raises InvalidRequest."""
    from gramian.usecases.projects import rows

    rows.forget(task.node, task.project(), frames.decode(task.body()), task.arguments(Batch).operation)
