"""Learning and forgetting rows, and the statistics of all of them (how they are kept: `ledger`)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from secrets import token_hex

from gramian.domain.canonical import join
from gramian.domain.frame import Frame
from gramian.domain.names import MAX_ATTRIBUTES
from gramian.domain.statistics import merge, snapshot
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import widen
from gramian.errors import BlobMissing, ConditionFailed, InvalidRequest, StoreError, TooLarge, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, MAX_VALUE_BYTES, MAX_WRITES, Delete, Put, Write
from gramian.usecases import records
from gramian.usecases.projects.ledger import READ_ATTEMPTS, LocalState, attributes, read
from gramian.usecases.projects.lifecycle import Project, find, still_there, sweep
from gramian.usecases.records import ATTRIBUTES, BASE, DELTA, FORGETS, OPERATION

log = logging.getLogger(__name__)
COMPACT_AT = 32
LEARN_ATTEMPTS = 100
OPERATION_MEMORY_S = 24 * 3600
INLINE_BYTES = 8 * 1024
"""A snapshot up to this size (some 35 attributes) is kept in its item: a blob of its own would take two more writes to
disk and a removal. Not more, since each learn reads the list of those that are not folded yet."""
_compacting: set[str] = set()
"""Projects, by uid, whose learns this process folds right now."""


def learn(node: Node, project: Project, frame: Frame, operation: str | None = None) -> None:
    """Add the frame's rows; with an `operation` id, a repetition adds nothing. Raises InvalidRequest."""
    batch, fingerprint = _accumulate(node, frame)
    if batch.n:
        add(node, project, frame.numeric(), batch, fingerprint, operation)


def add(
    node: Node,
    project: Project,
    columns: Sequence[tuple[str, str]],
    batch: Moments,
    fingerprint: str,
    operation: str | None = None,
    also: Callable[[], Sequence[Write]] = tuple,
) -> None:
    """Add the moments of rows with these columns, by name and type, in their sender's order.

    `also` gives writes of the same group, anew for each attempt. Raises InvalidRequest, Unavailable, and whatever
    `also` does.
    """
    for _ in range(LEARN_ATTEMPTS):
        # With the rows or not at all: a name without rows would bar this node from its federation.
        writes = [*_extension(node, project, columns), *also()]
        try:
            _append(node, project, batch, fingerprint, batch.n, operation, writes)
        except ConditionFailed:
            continue
        _compact_if_many(node, project)
        return
    raise Unavailable("too many learns with new attributes at once; try again")


def forget(node: Node, project: Project, frame: Frame, operation: str | None = None) -> None:
    """Subtract the frame's rows; a batch that is still listed as such is dropped without a rounding.

    Raises InvalidRequest if the project cannot contain these rows.
    """
    known = attributes(node, project)
    unknown = [name for name, _ in frame.numeric() if name not in known.names]
    if unknown:
        raise InvalidRequest(f"cannot forget rows with the attribute '{unknown[0]}': it was never learned")
    batch, fingerprint = _accumulate(node, frame)
    if not batch.n:
        return
    for _ in range(READ_ATTEMPTS):
        turn = node.state.get(project.partition, FORGETS)
        # Forgets exclude each other, since two of them may be possible alone but not together; learns go on.
        exclusion = Put(project.partition, FORGETS, b"", turn.version if turn else ABSENT)
        state = read(node, project)
        if operation is not None and _is_known(node, project, operation):
            return
        try:
            equal = _equal(state, fingerprint)
            if equal is not None:
                _check_foldable(node, project, state.without(equal))
                _drop(node, project, state, equal, [exclusion, *_mark(node, project, operation)])
            else:
                _check_foldable(node, project, state, batch)
                _append(node, project, batch, fingerprint, -batch.n, operation, [exclusion])
        except (ConditionFailed, BlobMissing):
            continue
        # At once, so that the base knows which attributes have lost digits.
        _compact_or_note(node, project)
        return
    raise Unavailable("too many forgets at once; try again")


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
        batch = _batch_of(node, project, state.deltas[id_].record)
        total = batch if total is None else merge.add(*_widened(total, batch))
    for id_ in sorted(forgets):
        if total is None:
            raise ValueError("there are no rows to forget any from")
        total = merge.subtract(*_widened(total, _batch_of(node, project, state.deltas[id_].record)))
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
        _discard_blob(node, project, delta.record.blob)
    step("compaction.discard")
    _discard_blob(node, project, state.base.record.blob)


def _discard_blob(node: Node, project: Project, blob: str) -> None:
    if blob:
        node.blobs.delete(project.uid, blob)


def _folded(node: Node, project: Project, state: LocalState) -> Moments | None:
    """As `fold`; rows that do not add up are the store's fault, not the caller's."""
    try:
        return fold(node, project, state)
    except ValueError as error:
        raise StoreError(f"the stored rows of '{project.pid}' do not add up: {error}") from error


def _accumulate(node: Node, frame: Frame) -> tuple[Moments, str]:
    """Moments of the frame in its own schema, and the batch's fingerprint."""
    schema = Schema.of(frame.numeric())
    rows = frame.matrix(schema.names)
    try:
        return node.compute.accumulate(rows, schema), _fingerprint(rows, schema)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _fingerprint(rows: Array, schema: Schema) -> str:
    return hashlib.sha256(join(schema.digest(), str(rows.shape[0])) + rows.tobytes()).hexdigest()


def _extension(node: Node, project: Project, columns: Sequence[tuple[str, str]]) -> list[Write]:
    """The write that adds the attributes that are new, in their order, if there are any.

    Raises InvalidRequest if a known one comes with another type, or if they become too many."""
    stored = records.load_or(node.state, project.partition, ATTRIBUTES, records.Attributes())
    types = dict(zip(stored.record.names, stored.record.types, strict=True))
    for name, kind in columns:
        if types.setdefault(name, kind) != kind:
            raise InvalidRequest(
                f"the attribute '{name}' has type {types[name]} in this project, not {kind}; "
                "send it with its type or under another name"
            )
    both = records.Attributes(list(types), "".join(types.values()))
    if len(types) > MAX_ATTRIBUTES or len(records.encode(both)) > MAX_VALUE_BYTES:
        raise TooLarge(
            f"a project has at most {MAX_ATTRIBUTES} attributes, and their names take at most {MAX_VALUE_BYTES} "
            "bytes: send fewer attributes, or shorter names"
        )
    return [] if both == stored.record else [records.put(project.partition, ATTRIBUTES, both, stored.version)]


def _append(
    node: Node, project: Project, batch: Moments, fingerprint: str, rows: int, operation: str | None, also: list[Write]
) -> None:
    """Store one delta. Raises ConditionFailed if a write in `also` does not hold."""
    now_ms = int(node.clock() * 1000)
    id_ = f"{now_ms:013d}-{token_hex(8)}"
    data = snapshot.encode(batch, local=True, extra={"unit": id_})
    blob = node.blobs.put(project.uid, data) if len(data) > INLINE_BYTES else ""
    step("learn.blob")
    delta = records.Delta(blob, rows, fingerprint, now_ms, b"" if blob else bytes(data))
    try:
        node.state.write(
            records.put(project.partition, DELTA + id_, delta, ABSENT), *_mark(node, project, operation), *also
        )
    except ConditionFailed:
        _discard_blob(node, project, blob)
        if operation and _is_known(node, project, operation):
            return
        raise
    step("learn.commit")
    if not still_there(node, project):
        # Deleted meanwhile: this learn must not be acknowledged, nor stay behind.
        sweep(node, project.uid)
        find(node, project.cid, project.pid)
        raise InvalidRequest(f"the project '{project.pid}' was deleted and made again meanwhile; repeat the call")


def _mark(node: Node, project: Project, operation: str | None) -> list[Write]:
    """The write that remembers an idempotent call for as long as it may be repeated."""
    if operation is None:
        return []
    now = node.clock()
    mark = records.Operation(int(now * 1000))
    return [records.put(project.partition, OPERATION + operation, mark, ABSENT, int(now) + OPERATION_MEMORY_S)]


def _is_known(node: Node, project: Project, operation: str) -> bool:
    return node.state.get(project.partition, OPERATION + operation) is not None


def _equal(state: LocalState, fingerprint: str) -> str | None:
    """The id of a listed learn of the same batch."""
    learns = (id_ for id_, delta in state.deltas.items() if delta.record.rows > 0)
    return next((id_ for id_ in learns if state.deltas[id_].record.fingerprint == fingerprint), None)


def _drop(node: Node, project: Project, state: LocalState, id_: str, also: list[Write]) -> None:
    """Take a listed delta back. Raises ConditionFailed if the rows changed since they were read."""
    delta = state.deltas[id_]
    # The base is written again, unchanged: a compaction that already folded this delta must not succeed.
    base = records.put(project.partition, BASE, state.base.record, state.base.version)
    node.state.write(Delete(project.partition, DELTA + id_, delta.version), base, *also)
    step("forget.commit")
    _discard_blob(node, project, delta.record.blob)


def _check_foldable(node: Node, project: Project, state: LocalState, forgotten: Moments | None = None) -> None:
    """Raises InvalidRequest unless the rows add up, without those of a batch to forget. Raises BlobMissing."""
    try:
        total = fold(node, project, state)
        if forgotten is not None:
            if total is None:
                raise ValueError("the project has none")
            merge.subtract(*_widened(total, forgotten))
    except ValueError as error:
        raise InvalidRequest(f"cannot forget these rows: {error}") from error


def _widened(a: Moments, b: Moments) -> tuple[Moments, Moments]:
    """Both under the union of their schemas: an attribute that one lacks is missing in all its rows."""
    if a.schema == b.schema:
        return a, b
    types = dict(zip(a.schema.names, a.schema.types, strict=True)) | dict(
        zip(b.schema.names, b.schema.types, strict=True)
    )
    union = Schema.of(types.items())
    return widen(a, union), widen(b, union)


def _batch_of(node: Node, project: Project, delta: records.Delta) -> Moments:
    """Raises BlobMissing."""
    return snapshot.decode(delta.data, local=True) if delta.data else snapshot_of(node, project, delta.blob)


def snapshot_of(node: Node, project: Project, blob: str) -> Moments:
    return snapshot.decode(node.blobs.get(project.uid, blob), local=True)


def _compact_if_many(node: Node, project: Project) -> None:
    """By one thread at a time: others would do the same work and lose the race to write it."""
    if project.uid in _compacting:
        return
    _compacting.add(project.uid)
    try:
        if len(node.state.query(project.partition, DELTA, limit=COMPACT_AT)) == COMPACT_AT:
            _compact_or_note(node, project)
    finally:
        _compacting.discard(project.uid)


def _compact_or_note(node: Node, project: Project) -> None:
    """The batch counts already, so whatever fails here is only noted."""
    try:
        compact(node, project)
    except (Unavailable, StoreError) as error:
        log.warning("the rows of %s were not compacted: %s", project.pid, error)
