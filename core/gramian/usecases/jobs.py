"""Background jobs: submitted with a number, observed by it, failed if the process that ran them died."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from gramian.errors import ConditionFailed, GramianError, InvalidRequest, Unavailable
from gramian.node import Node
from gramian.ports import ABSENT, Delete
from gramian.usecases import records

log = logging.getLogger(__name__)
KEEP_S = 7 * 24 * 3600


class Job(msgspec.Struct, frozen=True):
    """`error` is empty unless the job failed. `instance`: the process that runs it. Times: unix milliseconds."""

    kind: str
    instance: str
    started_at: int
    is_done: bool = False
    error: str = ""


class _Counter(msgspec.Struct, frozen=True):
    last: int = 0


def partition(cid: str) -> str:
    return f"jobs/{cid}"


def _key(number: int) -> str:
    return f"job/{number:012d}"


def submit(node: Node, cid: str, kind: str, run: Callable[[], None]) -> int:
    """Run `run` in the background and return the job's number."""
    number = records.update(
        node.state, partition(cid), "counter", _Counter(), lambda counter: _Counter(counter.last + 1)
    ).last
    job = Job(kind, node.instance, int(node.clock() * 1000))
    node.state.write(records.put(partition(cid), _key(number), job, ABSENT, _expiry(node)))
    try:
        node.jobs.submit(lambda: _run(node, cid, number, run))
    except Unavailable:
        node.state.write(Delete(partition(cid), _key(number)))
        raise
    return number


def find(node: Node, cid: str, number: int) -> Job:
    """Raises InvalidRequest for an unknown number."""
    stored = records.load(node.state, partition(cid), _key(number), Job)
    if stored is None:
        raise InvalidRequest("No such job")
    if not stored.record.is_done and not node.instance_alive(stored.record.instance):
        return _finish(node, cid, number, "the server was stopped while the job ran; submit it again")
    return stored.record


def listed(node: Node, cid: str) -> dict[int, Job]:
    """Jobs by number; what is deleted while they are read is left out."""
    found = {}
    for id_ in records.listed(node.state, partition(cid), "job/", Job):
        with suppress(InvalidRequest):
            found[int(id_)] = find(node, cid, int(id_))
    return found


def delete(node: Node, cid: str, number: int) -> bool:
    """Forget a finished job; False for one that runs, which cannot be killed. Raises InvalidRequest."""
    if not find(node, cid, number).is_done:
        return False
    node.state.write(Delete(partition(cid), _key(number)))
    return True


def forget_all(node: Node, cid: str) -> None:
    """Remove what is known of a user's jobs."""
    for key, _ in node.state.query(partition(cid)):
        node.state.write(Delete(partition(cid), key))


def _run(node: Node, cid: str, number: int, run: Callable[[], None]) -> None:
    try:
        run()
    except GramianError as error:
        _finish(node, cid, number, str(error))
    except Exception:
        log.exception("job %d of %s failed", number, cid)
        _finish(node, cid, number, "an unexpected error; the server's log has it")
        raise
    else:
        _finish(node, cid, number, "")


def _finish(node: Node, cid: str, number: int, error: str) -> Job:
    stored = records.load(node.state, partition(cid), _key(number), Job)
    if stored is None:
        raise InvalidRequest("No such job")
    if stored.record.is_done:
        return stored.record
    done = msgspec.structs.replace(stored.record, is_done=True, error=error)
    try:
        node.state.write(records.put(partition(cid), _key(number), done, stored.version, _expiry(node)))
    except ConditionFailed as conflict:
        raise Unavailable("the job changed meanwhile; ask again") from conflict
    return done


def _expiry(node: Node) -> int:
    return int(node.clock()) + KEEP_S
