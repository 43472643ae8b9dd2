"""What stands of a user's jobs in the stores: a record each, and the body of some until they have ended."""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_bytes

import msgspec

from gramian.errors import ConditionFailed, InvalidRequest, Unavailable
from gramian.node import Node
from gramian.ports import ABSENT, Delete, StateStore, Write
from gramian.usecases import records
from gramian.usecases.projects import lifecycle

KEEP_S = 7 * 24 * 3600
JOB = "job/"
_UNIT_BYTES = 16


class Progress(msgspec.Struct, frozen=True):
    """`done` of `of` units, whatever they are; `text` says more."""

    done: int = 0
    of: int = 1
    text: str = ""


class Job(msgspec.Struct, frozen=True):
    """`error` is empty unless the job failed. `instance`: the process that runs it, empty while it waits for one.

    `runner`: empty, GPU or SYNC. `handle`: the runner's own name of it. `waiting_since`: when it was paused. `pid`,
    `uid`: its project, in whose space `body` is kept. `answer`: what it found, by entity. Times: unix milliseconds."""

    kind: str
    instance: str
    started_at: int
    is_done: bool = False
    error: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    pid: str = ""
    uid: str = ""
    body: str = ""
    runner: str = ""
    handle: str = ""
    waiting_since: int = 0
    is_started: bool = False
    progress: Progress = Progress()
    answer: msgspec.Raw = msgspec.Raw(b"{}")


class _Counter(msgspec.Struct, frozen=True):
    last: int = 0


class _Body(msgspec.Struct, frozen=True):
    """Keeps a job's body from being swept."""

    blob: str


def partition(cid: str) -> str:
    return f"jobs/{cid}"


def key(number: int) -> str:
    return f"{JOB}{number:012d}"


def load(state: StateStore, cid: str, number: int) -> records.Stored[Job]:
    """Raises InvalidRequest for an unknown number."""
    stored = records.load(state, partition(cid), key(number), Job)
    if stored is None:
        raise InvalidRequest("No such job")
    return stored


def pid_of(state: StateStore, cid: str, number: int) -> str:
    """The project that a job is about, empty if it is about none; for runners. Raises InvalidRequest."""
    return load(state, cid, number).record.pid


def next_number(node: Node, cid: str) -> int:
    return records.update(
        node.state, partition(cid), "counter", _Counter(), lambda counter: _Counter(counter.last + 1)
    ).last


def first_writes(node: Node, cid: str, number: int, job: Job) -> list[Write]:
    """What makes a job exist, and keeps its body."""
    writes: list[Write] = [records.put(partition(cid), key(number), job, ABSENT, expiry(node))]
    if job.body:
        writes.append(records.put(*_body_place(cid, number, job), _Body(job.body), ABSENT, expiry(node)))
    return writes


def _body_place(cid: str, number: int, job: Job) -> tuple[str, str]:
    return lifecycle.partition(job.uid), f"{records.BODY}{cid}/{number:012d}"


def body_deletes(cid: str, number: int, job: Job) -> list[Write]:
    """What no longer keeps its body; `free_body` then removes it."""
    return [Delete(*_body_place(cid, number, job))] if job.body else []


def free_body(node: Node, job: Job) -> None:
    if job.body:
        node.blobs.delete(job.uid, job.body)


def keep_body(node: Node, uid: str, body: bytes) -> str:
    """Store a body in the space of a project, under a name that is its own: another job may have an equal one."""
    return node.blobs.put(uid, token_bytes(_UNIT_BYTES) + body)


def read_body(node: Node, job: Job) -> bytes:
    return node.blobs.get(job.uid, job.body)[_UNIT_BYTES:]


def revise(node: Node, cid: str, number: int, change: Callable[[Job], Job]) -> Job | None:
    """As `records.revise`, keeping the time when the record expires."""
    for _ in range(records.UPDATE_ATTEMPTS):
        stored = records.load(node.state, partition(cid), key(number), Job)
        if stored is None:
            return None
        job = change(stored.record)
        if job == stored.record:
            return job
        try:
            node.state.write(records.put(partition(cid), key(number), job, stored.version, expiry(node)))
        except ConditionFailed:
            continue
        return job
    raise Unavailable("the job changes too quickly; ask again")


def expiry(node: Node) -> int:
    return int(node.clock()) + KEEP_S
