"""Which statistics and attributes models are built from: the federated ones once there are any, else the local rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gramian.errors import BlobCorrupt, BlobMissing, ConditionFailed, InvalidRequest, Unavailable
from gramian.node import Node
from gramian.ports import Delete
from gramian.usecases import records
from gramian.usecases.projects.lifecycle import Project

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Moments

READ_ATTEMPTS = 20
FEDERATED, LOCAL = "federated", "local"


@dataclass(frozen=True, slots=True)
class Source:
    """`digest` and `inputs` name the federated statistics, empty for local ones."""

    moments: Moments
    kind: str
    digest: str = ""
    inputs: str = ""


def statistics(node: Node, project: Project) -> Source:
    """Raises InvalidRequest if nothing was learned yet."""
    from gramian.usecases.projects import folding

    if project.record.federated:
        found = _federated(node, project)
        if found is not None:
            return found
    local = folding.moments(node, project)
    if local is None:
        raise InvalidRequest(f"the project '{project.pid}' has no rows yet: learn first")
    return Source(local, LOCAL)


def _federated(node: Node, project: Project) -> Source | None:
    from gramian.domain.statistics import snapshot
    from gramian.usecases.federation import merging

    for _ in range(READ_ATTEMPTS):
        stored = merging.current(node, project.partition)
        if stored is None:
            return None
        try:
            moments = snapshot.decode(node.blobs.get(project.uid, stored.record.blob))
        except (BlobMissing, BlobCorrupt) as error:
            if _is_lost(node, project, stored):
                raise Unavailable("the federated statistics are damaged; the next sync makes them anew") from error
            continue
        return Source(moments, FEDERATED, stored.record.digest, stored.record.inputs)
    raise Unavailable("the federated statistics change too quickly to be read; try again")


def _is_lost(node: Node, project: Project, read: records.Stored[records.Federated]) -> bool:
    """Whether the blob is gone rather than replaced by a pulse; then the next pulse has to merge again."""
    try:
        node.state.write(Delete(project.partition, records.FEDERATED, read.version))
    except ConditionFailed:
        return False
    return True
