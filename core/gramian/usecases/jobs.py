"""Background jobs: a record says what to do, so that this process or another one can do it.

A job is submitted with a number, run by `execute` wherever the job runner has that called, observed by its number, and
failed if the process that ran it died. What it is about stands in its record as a kind and JSON arguments; a large body
is kept in the blob store of its project until the job has ended.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TypeVar

import msgspec

from gramian.domain import typed
from gramian.errors import (
    ConditionFailed,
    GramianError,
    InvalidRequest,
    PluginError,
    StoreError,
    TooLarge,
    Unavailable,
    for_callers,
)
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Delete, JobRunner, Write
from gramian.usecases import job_records, records
from gramian.usecases.federation import journal
from gramian.usecases.job_records import Job as Job
from gramian.usecases.job_records import Progress as Progress
from gramian.usecases.job_records import partition
from gramian.usecases.projects import lifecycle
from gramian.usecases.projects.lifecycle import Project

log = logging.getLogger(__name__)
A = TypeVar("A", bound=msgspec.Struct)

MAX_ANSWER_BYTES = 256 * 1024
OPERATION_KEPT_S = 24 * 3600
SUBMIT_ATTEMPTS = 20
GPU, SYNC = "gpu", "sync"
"""The runners of `settings.gpu_jobs` and `settings.sync_jobs`; the usual one has no name."""
STOPPED = "the server was stopped while the job ran; submit it again"
OPERATION = "operation/"

KINDS = {
    "learn": ("gramian.usecases.projects.batches", "learn"),
    "forget": ("gramian.usecases.projects.batches", "forget"),
    "build": ("gramian.usecases.modeling.models", "run_build"),
    "upload": ("gramian.usecases.projects.uploads", "run"),
    "gpu_pulse": ("gramian.usecases.federation.gpu", "run"),
    "sync": ("gramian.usecases.federation.pulse", "run_job"),
    "awsinfo": ("gramian.usecases.federation.inventory", "run"),
}
"""Module and function, called with a Task, that does a job of each kind; imported where one runs: some need numpy."""


class Paused(Exception):
    """Raised by a job that is late, has kept what it did, and wants to go on from there in another process."""


class Nothing(msgspec.Struct, frozen=True):
    """The arguments of a kind that needs none."""


class _Submitted(msgspec.Struct, frozen=True):
    """Which job an idempotent call has led to."""

    number: int


class Task(msgspec.Struct, frozen=True):
    """What the function of a kind gets. `until`: unix seconds when this process will be ended, if it will."""

    node: Node
    cid: str
    number: int
    job: Job
    until: float = math.inf

    def arguments(self, kind: type[A]) -> A:
        return typed.decode(self.job.arguments, kind)

    def project(self) -> Project:
        """Raises InvalidRequest if it was deleted since."""
        project = lifecycle.find(self.node, self.cid, self.job.pid)
        if project.uid != self.job.uid:
            raise InvalidRequest(f"the project '{self.job.pid}' was deleted and made again meanwhile; repeat the call")
        return project

    def body(self) -> bytes:
        return job_records.read_body(self.node, self.job)

    def is_late(self) -> bool:
        """Whether a job that can go on elsewhere should now raise Paused."""
        return self.node.clock() >= self.until

    def answer(self, entities: Mapping[str, object]) -> None:
        """What the job found, by entity, for those who ask how it ended. Raises TooLarge."""
        found = msgspec.Raw(msgspec.json.encode(entities))
        if len(found) > MAX_ANSWER_BYTES:
            raise TooLarge(f"the answer has {len(found)} bytes, a job keeps {MAX_ANSWER_BYTES}: ask for less at a time")
        job_records.revise(self.node, self.cid, self.number, lambda job: msgspec.structs.replace(job, answer=found))

    def progress(self, done: int, of: int, text: str = "") -> None:
        """Tell those who ask how far the job is."""
        made = Progress(done, of, text)
        job_records.revise(self.node, self.cid, self.number, lambda job: msgspec.structs.replace(job, progress=made))


def submit(
    node: Node,
    cid: str,
    kind: str,
    arguments: msgspec.Struct,
    *,
    project: Project | None = None,
    body: bytes = b"",
    operation: str | None = None,
    runner: str = "",
    also: Callable[[int], Sequence[Write]] = lambda _number: (),
) -> int:
    """Have a job done in the background and return its number.

    `project`: what it is about; needed with a `body`. With an `operation` id, a repetition within 24 hours returns the
    same job, unless that failed. `also` are writes that go with the job's record or make it fail: ConditionFailed.
    Raises Unavailable if no job is taken now.
    """
    assert kind in KINDS, kind
    assert project is not None or not body, "a body is kept with a project"
    job = Job(
        kind,
        _waiting_instance(node, runner),
        int(node.clock() * 1000),
        arguments=msgspec.Raw(msgspec.json.encode(arguments)),
        pid=project.pid if project else "",
        uid=project.uid if project else "",
        body=job_records.keep_body(node, project.uid, body) if project and body else "",
        runner=runner,
    )
    is_new = False
    try:
        number, is_new = _enrol(node, cid, job, operation, also)
    finally:
        if not is_new:
            job_records.free_body(node, job)
    if is_new:
        step("job.recorded")
        try:
            _hand_over(node, cid, number, job)
        except GramianError:
            # The operation's mark may stay: it points to no job, as if that had been forgotten.
            node.state.write(
                Delete(partition(cid), job_records.key(number)), *job_records.body_deletes(cid, number, job)
            )
            job_records.free_body(node, job)
            raise
    return number


def execute(node: Node, cid: str, number: int, *, until: float = math.inf) -> None:
    """Do a job here, whoever submitted it. Nothing if it is done, unknown, or under way in a process that lives.

    A job whose process died may be executed again: what jobs do is idempotent. Errors are kept in the record; only
    those that nobody expects are raised as well. `until`: unix seconds by which long jobs should have stopped, and are
    then submitted anew, to go on in another process.
    """
    job = _claim(node, cid, number)
    if job is None:
        return
    module, function = KINDS[job.kind]
    try:
        getattr(import_module(module), function)(Task(node, cid, number, job, until))
    except Paused:
        _go_on_elsewhere(node, cid, number, job)
    except GramianError as error:
        if isinstance(error, StoreError):
            log.exception("job %d of %s failed", number, cid)
        _finish(node, cid, number, for_callers(error))
    except Exception:
        log.exception("job %d of %s failed", number, cid)
        _finish(node, cid, number, "an unexpected error; the server's log has it")
        raise
    else:
        _finish(node, cid, number, "")


def find(node: Node, cid: str, number: int) -> Job:
    """Raises InvalidRequest for an unknown number."""
    return _as_it_stands(node, cid, number, job_records.load(node.state, cid, number).record)


def wait(node: Node, cid: str, number: int, timeout_s: float, *, poll_s: float = 0.1) -> Job:
    """The job once it is done, or as it stands after `timeout_s`."""
    deadline = node.clock() + timeout_s
    while not (job := find(node, cid, number)).is_done and node.clock() < deadline:
        node.sleep(poll_s)
    return job


def listed(node: Node, cid: str) -> dict[int, Job]:
    """Jobs by number; what is deleted while they are read is left out."""
    found = {}
    for id_, stored in records.listed(node.state, partition(cid), job_records.JOB, Job).items():
        with suppress(InvalidRequest):
            found[int(id_)] = _as_it_stands(node, cid, int(id_), stored.record)
    return found


def delete(node: Node, cid: str, number: int) -> bool:
    """Forget a finished job; False for one that runs, which cannot be killed. Raises InvalidRequest."""
    if not find(node, cid, number).is_done:
        return False
    node.state.write(Delete(partition(cid), job_records.key(number)))
    return True


def forget_all(node: Node, cid: str) -> None:
    """Remove what is known of a user's jobs."""
    for key, _ in node.state.query(partition(cid)):
        node.state.write(Delete(partition(cid), key))


def _runner(node: Node, name: str) -> JobRunner:
    if name == SYNC:
        return node.sync_jobs
    return node.gpu_jobs if name == GPU else node.jobs


def _waiting_instance(node: Node, runner: str) -> str:
    """Who has a job that is not begun: nobody, unless it waits in this process."""
    return "" if _runner(node, runner).patience_s else node.instance


def _enrol(
    node: Node, cid: str, job: Job, operation: str | None, also: Callable[[int], Sequence[Write]]
) -> tuple[int, bool]:
    """Write the job's record under a new number; or the number of the job that the operation has led to before."""
    for _ in range(SUBMIT_ATTEMPTS):
        earlier = _earlier(node, cid, operation)
        if earlier is not None and not _is_lost(node, cid, earlier.record.number):
            return earlier.record.number, False
        number = job_records.next_number(node, cid)
        mark = _operation_mark(node, cid, operation, number, earlier.version if earlier else ABSENT)
        try:
            node.state.write(*job_records.first_writes(node, cid, number, job), *mark, *also(number))
        except ConditionFailed:
            if earlier == _earlier(node, cid, operation):
                raise  # it was one of `also`
            continue
        return number, True
    raise Unavailable("too many calls of this operation at once; try again")


def _earlier(node: Node, cid: str, operation: str | None) -> records.Stored[_Submitted] | None:
    """Which job the operation has led to before."""
    return None if operation is None else records.load(node.state, partition(cid), OPERATION + operation, _Submitted)


def _is_lost(node: Node, cid: str, number: int) -> bool:
    """Whether a job has failed or is forgotten."""
    try:
        return bool(find(node, cid, number).error)
    except InvalidRequest:
        return True


def _operation_mark(node: Node, cid: str, operation: str | None, number: int, expect: str) -> list[Write]:
    if operation is None:
        return []
    expires_at = int(node.clock()) + OPERATION_KEPT_S
    return [records.put(partition(cid), OPERATION + operation, _Submitted(number), expect, expires_at)]


def _hand_over(node: Node, cid: str, number: int, job: Job) -> None:
    """To the runner. Raises Unavailable if that takes no more."""
    handle = _runner(node, job.runner).submit(cid, number, lambda: execute(node, cid, number))
    if handle:
        job_records.revise(node, cid, number, lambda now: msgspec.structs.replace(now, handle=handle))


def _go_on_elsewhere(node: Node, cid: str, number: int, job: Job) -> None:
    waits = {"instance": _waiting_instance(node, job.runner), "handle": "", "waiting_since": int(node.clock() * 1000)}
    job_records.revise(node, cid, number, lambda now: msgspec.structs.replace(now, **waits))
    try:
        _hand_over(node, cid, number, job)
    except GramianError as error:
        _finish(
            node,
            cid,
            number,
            f"it had to go on in another process, and could not: {for_callers(error)}; submit it again",
        )


def _claim(node: Node, cid: str, number: int) -> Job | None:
    """Take the job for this process; None if there is nothing to do for it."""
    mine = False

    def taken(job: Job) -> Job:
        nonlocal mine
        elsewhere = job.instance not in ("", node.instance) and node.instance_alive(job.instance)
        mine = not job.is_done and not elsewhere
        return msgspec.structs.replace(job, instance=node.instance, is_started=True) if mine else job

    job = job_records.revise(node, cid, number, taken)
    if job is None or not mine:
        log.info("job %d of %s is not to be done here (any more)", number, cid)
        return None
    return job


def _as_it_stands(node: Node, cid: str, number: int, job: Job) -> Job:
    """The job, finished as failed if nobody will ever do it. Raises InvalidRequest if it was deleted meanwhile."""
    reason = _cause_of_death(node, job)
    return _finish(node, cid, number, reason) if reason else job


def _cause_of_death(node: Node, job: Job) -> str:
    """Why a job that is not done never will be; empty if it may."""
    if job.is_done:
        return ""
    if job.instance and not job.handle:
        return "" if node.instance_alive(job.instance) else STOPPED
    try:
        runner = _runner(node, job.runner)
        if job.handle:
            return runner.failure(job.handle)
    except (PluginError, StoreError) as error:
        log.warning("nobody can tell how the job '%s' stands: %s", job.kind, error)
        return ""
    is_late = node.clock() > (job.waiting_since or job.started_at) / 1000 + runner.patience_s
    return "no process has taken the job up in time; submit it again" if is_late else ""


def _finish(node: Node, cid: str, number: int, error: str) -> Job:
    """Note how the job ended, once, and free its body."""
    for _ in range(records.UPDATE_ATTEMPTS):
        stored = job_records.load(node.state, cid, number)
        if stored.record.is_done:
            return stored.record
        done = msgspec.structs.replace(stored.record, is_done=True, error=error)
        try:
            node.state.write(
                records.put(partition(cid), job_records.key(number), done, stored.version, job_records.expiry(node)),
                *job_records.body_deletes(cid, number, done),
            )
        except ConditionFailed:
            continue
        step("job.finished")
        job_records.free_body(node, done)
        if error and done.runner == GPU:
            _tell_user(node, cid, done)
        return done
    raise Unavailable("the job changes too quickly; ask again")


def _tell_user(node: Node, cid: str, job: Job) -> None:
    """In the error log of the project: nobody waits for a job that the scheduler submitted."""
    with suppress(InvalidRequest):
        project = lifecycle.find(node, cid, job.pid)
        journal.error(node, project, f"the job '{job.kind}' on the GPU failed: {job.error}")
