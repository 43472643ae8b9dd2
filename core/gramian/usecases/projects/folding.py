"""Local rows added up, and compaction, which keeps them in one base (how they are kept: `ledger`)."""

from __future__ import annotations

import logging
from secrets import token_hex

from gramian.domain.statistics import merge, snapshot
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import widen
from gramian.errors import BlobMissing, ConditionFailed, StoreError, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import MAX_WRITES, Delete, Write
from gramian.usecases import records
from gramian.usecases.projects.ledger import READ_ATTEMPTS, LocalState, read
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import BASE, DELTA

log = logging.getLogger(__name__)
COMPACT_AT = 32
_compacting: set[str] = set()
"""Projects, by uid, whose learns this process folds right now."""


def moments(node: Node, project: Project) -> Moments | None:
    """The statistics of all local rows, None before the first."""
    for _ in range(READ_ATTEMPTS):
        state = read(node, project)
        try:
            return _folded(node, project, state)
        except BlobMissing as error:
            _check_moved_on(node, project, state, error)
    raise Unavailable("the project's rows change too quickly to be read; try again")


def _check_moved_on(node: Node, project: Project, state: LocalState, error: BlobMissing) -> None:
    """Raises StoreError unless a compaction has removed what this reading still pointed to."""
    now = read(node, project)
    if now.base.version == state.base.version and set(now.deltas) >= set(state.deltas):
        raise StoreError(f"rows of '{project.pid}' are lost, restore the home from a backup: {error}") from error


def fold(node: Node, project: Project, state: LocalState) -> Moments | None:
    """Base, then all learns by id, then all forgets. Raises BlobMissing, and ValueError for forgets of no rows."""
    total = snapshot_of(node, project, state.base.record.blob) if state.base.record.blob else None
    learns = [id_ for id_, delta in state.deltas.items() if delta.record.rows > 0]
    forgets = [id_ for id_, delta in state.deltas.items() if delta.record.rows < 0]
    for id_ in sorted(learns):
        batch = batch_of(node, project, state.deltas[id_].record)
        total = batch if total is None else merge.add(*widened(total, batch))
    for id_ in sorted(forgets):
        if total is None:
            raise ValueError("there are no rows to forget any from")
        total = merge.subtract(*widened(total, batch_of(node, project, state.deltas[id_].record)))
    return total


def compact(node: Node, project: Project) -> records.Stored[records.Base]:
    """Fold all deltas into a new base and return it; the same base if there is nothing to fold."""
    for _ in range(READ_ATTEMPTS):
        state = read(node, project)
        if not state.deltas:
            return state.base
        try:
            return _fold_into_base(node, project, state)
        except ConditionFailed:
            continue
        except BlobMissing as error:
            _check_moved_on(node, project, state, error)
    raise Unavailable("the project's rows change too quickly to be folded; try again")


def _fold_into_base(node: Node, project: Project, state: LocalState) -> records.Stored[records.Base]:
    old = state.base.record
    total = _folded(node, project, state)
    assert total is not None, "there are deltas"
    data = snapshot.encode(total, local=True, extra={"unit": token_hex(8)})
    blob = node.blobs.put(project.uid, data)
    step("compaction.blob")
    rows = [delta.record.rows for delta in state.deltas.values()]
    base = records.Base(
        blob,
        total.n,
        sorted({**state.leftover, **state.deltas}),
        old.added + sum(count for count in rows if count > 0),
        old.removed - sum(count for count in rows if count < 0),
        state.modified_at,
        merge.doubtful(total),
    )
    try:
        node.state.write(records.put(project.partition, BASE, base, state.base.version))
    except ConditionFailed:
        node.blobs.delete(project.uid, blob)
        raise
    step("compaction.commit")
    _discard(node, project, state)
    return records.load_or(node.state, project.partition, BASE, base)


def _discard(node: Node, project: Project, state: LocalState) -> None:
    """Remove what a compaction folded."""
    folded = {**state.leftover, **state.deltas}
    items: list[Write] = [Delete(project.partition, DELTA + id_) for id_ in folded]
    for start in range(0, len(items), MAX_WRITES):
        node.state.write(*items[start : start + MAX_WRITES])
    for delta in folded.values():
        discard_blob(node, project, delta.record.blob)
    step("compaction.discard")
    discard_blob(node, project, state.base.record.blob)


def discard_blob(node: Node, project: Project, blob: str) -> None:
    if blob:
        node.blobs.delete(project.uid, blob)


def _folded(node: Node, project: Project, state: LocalState) -> Moments | None:
    """As `fold`; rows that do not add up are the store's fault, not the caller's."""
    try:
        return fold(node, project, state)
    except ValueError as error:
        raise StoreError(f"the stored rows of '{project.pid}' do not add up: {error}") from error


def widened(a: Moments, b: Moments) -> tuple[Moments, Moments]:
    """Both under the union of their schemas: an attribute that one lacks is missing in all its rows."""
    if a.schema == b.schema:
        return a, b
    types = dict(zip(a.schema.names, a.schema.types, strict=True)) | dict(
        zip(b.schema.names, b.schema.types, strict=True)
    )
    union = Schema.of(types.items())
    return widen(a, union), widen(b, union)


def batch_of(node: Node, project: Project, delta: records.Delta) -> Moments:
    """Raises BlobMissing."""
    return snapshot.decode(delta.data, local=True) if delta.data else snapshot_of(node, project, delta.blob)


def snapshot_of(node: Node, project: Project, blob: str) -> Moments:
    return snapshot.decode(node.blobs.get(project.uid, blob), local=True)


def compact_if_many(node: Node, project: Project) -> None:
    """By one thread at a time: others would do the same work and lose the race to write it."""
    if project.uid in _compacting:
        return
    _compacting.add(project.uid)
    try:
        if len(node.state.query(project.partition, DELTA, limit=COMPACT_AT)) == COMPACT_AT:
            compact_or_note(node, project)
    finally:
        _compacting.discard(project.uid)


def compact_or_note(node: Node, project: Project) -> None:
    """The batch counts already, so whatever fails here is only noted."""
    try:
        compact(node, project)
    except (Unavailable, StoreError) as error:
        log.warning("the rows of %s were not compacted: %s", project.pid, error)
