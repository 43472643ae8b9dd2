"""Creating, finding, listing and deleting projects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from secrets import token_hex

import msgspec

from gramian.domain.names import check_id
from gramian.errors import AlreadyExists, ConditionFailed, InvalidRequest
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, MAX_WRITES, Delete, Put, Write
from gramian.usecases import records

log = logging.getLogger(__name__)
GARBAGE = "garbage"
GARBAGE_KEPT_S = 3600
"""So long after a deletion no call that had begun before it still runs."""
HARMLESS_OPTIONS = {"sml_project_autosave", "sml_project_learn_merge"}
"""Options that hold anyway: every update is stored at once, and a learn is in whole or not at all."""
PLANNED_OPTIONS = ("sml_project_", "automl_", "rf_", "km_", "lr_", "cluster_", "partitionSplit", "mgpu_num")


class Project(msgspec.Struct, frozen=True):
    """One incarnation of a project."""

    cid: str
    pid: str
    uid: str
    record: records.Project

    @property
    def partition(self) -> str:
        return partition(self.uid)


def partition(uid: str) -> str:
    return f"project/{uid}"


def _owner(cid: str) -> str:
    return f"projects/{cid}"


def create(node: Node, cid: str, pid: str, *, kind: str, persist: bool, options: Mapping[str, object]) -> Project:
    """Make an empty local project. Raises AlreadyExists, and InvalidRequest for what does not exist yet."""
    if kind.lower() not in ("cpu", "dynamic"):
        raise InvalidRequest(f"projects of type '{kind[:40]}' are not available yet; use type=cpu")
    for key, value in options.items():
        is_off = str(value).strip().lower() in ("", "false", "0")
        if key.startswith(PLANNED_OPTIONS) and key not in HARMLESS_OPTIONS and not is_off:
            raise InvalidRequest(f"the project option '{key[:80]}' is not available yet; leave it out")
        if key == "sml_project_autosave" and is_off:
            raise InvalidRequest("sml_project_autosave=false is not available: every update is stored at once")
    unknown = [key for key in options if not key.startswith(PLANNED_OPTIONS)]
    if unknown:
        log.info("unknown project options are ignored: %s", ", ".join(sorted(unknown))[:500])
    return add(node, cid, pid, persist=persist, federated=False)


def add(
    node: Node,
    cid: str,
    pid: str,
    *,
    persist: bool,
    federated: bool,
    uid: str | None = None,
    extra: list[Write] | None = None,
) -> Project:
    """Write the project's item and whatever belongs with it in one group. Raises AlreadyExists."""
    check_id("project id", pid)
    record = records.Project(
        uid or new_uid(), int(node.clock() * 1000), federated, persist, "" if persist else node.instance
    )
    try:
        node.state.write(records.put(_owner(cid), pid, record, ABSENT), *(extra or []))
    except ConditionFailed as error:
        raise taken(cid, pid) from error
    return Project(cid, pid, record.uid, record)


def new_uid() -> str:
    return token_hex(16)


def taken(cid: str, pid: str) -> AlreadyExists:
    return AlreadyExists(f"Customer [{cid}] already have SYMETRYML with id[{pid}], ")


def exists(node: Node, cid: str, pid: str) -> bool:
    return node.state.get(_owner(cid), pid) is not None


def find(node: Node, cid: str, pid: str) -> Project:
    """Raises InvalidRequest if the user has no such project."""
    stored = records.load(node.state, _owner(cid), check_id("project id", pid), records.Project)
    if stored is None:
        raise _unknown(cid, pid)
    return Project(cid, pid, stored.record.uid, stored.record)


def _unknown(cid: str, pid: str) -> InvalidRequest:
    return InvalidRequest(f"Cannot Find SYMETRYML id[{pid}] for Customer id [{cid}]")


def still_there(node: Node, project: Project) -> bool:
    """Whether this very incarnation exists now."""
    stored = records.load(node.state, _owner(project.cid), project.pid, records.Project)
    return stored is not None and stored.record.uid == project.uid


@contextmanager
def unless_deleted(node: Node, project: Project) -> Iterator[None]:
    """Whatever fails in here because the project is being deleted raises InvalidRequest, as if it had never been."""
    try:
        yield
    except Exception as error:
        if still_there(node, project):
            raise
        raise _unknown(project.cid, project.pid) from error


def listed(node: Node, cid: str) -> list[str]:
    return [pid for pid, _ in node.state.query(_owner(cid))]


def of_user(node: Node, cid: str) -> list[Project]:
    found = records.listed(node.state, _owner(cid), "", records.Project)
    return [Project(cid, pid, stored.record.uid, stored.record) for pid, stored in found.items()]


def delete(node: Node, cid: str, pid: str) -> None:
    """Remove a project with all of its rows, models and logs. Raises InvalidRequest if there is none."""
    stored = records.load(node.state, _owner(cid), check_id("project id", pid), records.Project)
    if stored is None:
        raise InvalidRequest(f"Customer[{cid}] does not have Project with id[{pid}], ")
    uid = stored.record.uid
    try:
        node.state.write(Delete(_owner(cid), pid, stored.version), Put(GARBAGE, uid, str(int(node.clock())).encode()))
    except ConditionFailed as error:
        raise InvalidRequest(f"Customer[{cid}] does not have Project with id[{pid}], ") from error
    step("delete.commit")
    node.scheduler.remove(cid, pid)
    sweep(node, uid)


def sweep(node: Node, uid: str) -> None:
    """Remove all that a deleted project left; safe to repeat, so that a kill in the middle loses nothing but time."""
    while items := node.state.query(partition(uid), limit=MAX_WRITES):
        node.state.write(*(Delete(partition(uid), key) for key, _ in items))
    step("delete.items")
    node.uploads.clear(uid)
    node.blobs.clear(uid)


def sweep_all(node: Node) -> None:
    """Finish interrupted deletions, and remove what calls that were under way have written since."""
    for uid, deleted_at in node.state.query(GARBAGE):
        sweep(node, uid)
        if int(deleted_at.value) + GARBAGE_KEPT_S < node.clock():
            node.state.write(Delete(GARBAGE, uid))
