"""Learning and forgetting rows (how they are kept: `ledger`; how they are added up: `folding`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from secrets import token_hex
from typing import TypeAlias

import numpy as np

from gramian.domain.canonical import join
from gramian.domain.frame import Frame
from gramian.domain.names import MAX_ATTRIBUTES
from gramian.domain.statistics import merge, snapshot
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema
from gramian.errors import BlobMissing, ConditionFailed, InvalidRequest, TooLarge, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, MAX_VALUE_BYTES, MAX_WRITES, Delete, Put, Write
from gramian.together import Meetings
from gramian.usecases import records
from gramian.usecases.projects import folding
from gramian.usecases.projects.ledger import READ_ATTEMPTS, LocalState, attributes, read
from gramian.usecases.projects.lifecycle import Project, find, still_there, sweep
from gramian.usecases.records import ATTRIBUTES, BASE, DELTA, FORGETS, OPERATION

SMALL_CELLS = 4096
"""Batches with more are learned alone: their arithmetic takes longer than what could be shared."""
MOST_TOGETHER = MAX_WRITES - 5
"""Each may bring a write of its own."""
LEARN_ATTEMPTS = 100
OPERATION_MEMORY_S = 24 * 3600
INLINE_BYTES = 8 * 1024
"""A snapshot up to this size (some 35 attributes) is kept in its item: a blob of its own would take two more writes to
disk and a removal. Not more, since each learn reads the list of those that are not folded yet."""
Columns: TypeAlias = tuple[tuple[str, str], ...]
"""Name and type of each, in their sender's order."""


@dataclass(slots=True)
class _Batch:
    """The rows (n, p) of one call, and what kept them from being learned."""

    rows: Array
    fingerprint: str
    operation: str | None
    error: BaseException | None = None


_learners: Meetings[tuple[int, str, Columns], _Batch] = Meetings(MOST_TOGETHER)
"""Who learns small batches, by node, project and columns."""


class UnusableValues(InvalidRequest):
    """The compute backend refuses values of a batch."""


def learn(node: Node, project: Project, frame: Frame, operation: str | None = None) -> None:
    """Add the frame's rows; with an `operation` id, a repetition adds nothing. Raises InvalidRequest.

    Small batches that come at the same moment are learned as one: nearly all that one costs is the same for many.
    """
    columns = frame.numeric()
    rows, fingerprint = _matrix(frame)
    if not rows.shape[0]:
        return
    batch, work = _Batch(rows, fingerprint, operation), partial(_learn, node, project, columns)
    if rows.size <= SMALL_CELLS:
        _learners.at((id(node), project.uid, columns)).do(batch, work)
    else:
        work([batch])
    if batch.error is not None:
        raise batch.error


def _learn(node: Node, project: Project, columns: Columns, batches: Sequence[_Batch]) -> None:
    """All in one delta, or each alone if the values of one cannot be used. What fails is noted in the batches."""
    # A call and its repetition may have come at the same moment.
    once = list({batch.operation or number: batch for number, batch in enumerate(batches)}.values())
    operations = [batch.operation for batch in once if batch.operation is not None]
    # Forgetting one of several subtracts it: no batch is equal to what their delta holds.
    fingerprint = once[0].fingerprint if len(once) == 1 else f"{len(once)} batches"
    try:
        total = _accumulate(node, [batch.rows for batch in once], columns)
        if not add(node, project, columns, total, fingerprint, operations):
            fresh = [batch for batch in batches if not _is_known(node, project, batch.operation)]
            if fresh:
                _learn(node, project, columns, fresh)
    except UnusableValues as error:
        if len(batches) == 1:
            batches[0].error = error
            return
        for batch in batches:
            _learn(node, project, columns, [batch])
    except BaseException as error:  # noqa: BLE001 - their callers raise it
        for batch in batches:
            batch.error = error


def add(
    node: Node,
    project: Project,
    columns: Columns,
    batch: Moments,
    fingerprint: str,
    operations: Sequence[str] = (),
    also: Callable[[], Sequence[Write]] = tuple,
) -> bool:
    """Add the moments of rows with these columns, by name and type, in their sender's order.

    False, and nothing is added, if one of the `operations` was done before. `also` gives writes of the same group, anew
    for each attempt. Raises InvalidRequest, Unavailable, and whatever `also` does.
    """
    for _ in range(LEARN_ATTEMPTS):
        # With the rows or not at all: a name without rows would bar this node from its federation.
        writes = [*_extension(node, project, columns), *also()]
        try:
            _append(node, project, batch, fingerprint, batch.n, operations, writes)
        except ConditionFailed:
            if any(_is_known(node, project, operation) for operation in operations):
                return False
            continue
        folding.compact_if_many(node, project)
        return True
    raise Unavailable("too many learns with new attributes at once; try again")


def forget(node: Node, project: Project, frame: Frame, operation: str | None = None) -> None:
    """Subtract the frame's rows; a batch that is still listed as such is dropped without a rounding.

    Raises InvalidRequest if the project cannot contain these rows.
    """
    known = attributes(node, project)
    unknown = [name for name, _ in frame.numeric() if name not in known.names]
    if unknown:
        raise InvalidRequest(f"cannot forget rows with the attribute '{unknown[0]}': it was never learned")
    rows, fingerprint = _matrix(frame)
    if not rows.shape[0]:
        return
    batch = _accumulate(node, [rows], frame.numeric())
    operations = [] if operation is None else [operation]
    for _ in range(READ_ATTEMPTS):
        turn = node.state.get(project.partition, FORGETS)
        # Forgets exclude each other, since two of them may be possible alone but not together; learns go on.
        exclusion = Put(project.partition, FORGETS, b"", turn.version if turn else ABSENT)
        state = read(node, project)
        if _is_known(node, project, operation):
            return
        try:
            equal = _equal(state, fingerprint)
            if equal is not None:
                _check_foldable(node, project, state.without(equal))
                _drop(node, project, state, equal, [exclusion, *_marks(node, project, operations)])
            else:
                _check_foldable(node, project, state, batch)
                _append(node, project, batch, fingerprint, -batch.n, operations, [exclusion])
        except (ConditionFailed, BlobMissing):
            continue
        # At once, so that the base knows which attributes have lost digits.
        folding.compact_or_note(node, project)
        return
    raise Unavailable("too many forgets at once; try again")


def _matrix(frame: Frame) -> tuple[Array, str]:
    """The frame's rows under its own schema, and their fingerprint."""
    schema = _schema_of(frame.numeric())
    rows = frame.matrix(schema.names)
    return rows, _fingerprint(rows, schema)


def _accumulate(node: Node, batches: Sequence[Array], columns: Columns) -> Moments:
    rows = batches[0] if len(batches) == 1 else np.concatenate(batches)
    try:
        return node.compute.accumulate(rows, _schema_of(columns))
    except ValueError as error:
        raise UnusableValues(str(error)) from error


@lru_cache(maxsize=64)
def _schema_of(columns: Columns) -> Schema:
    """Kept, since most batches have the columns of those before."""
    return Schema.of(columns)


@lru_cache(maxsize=64)
def _digest(schema: Schema) -> str:
    return schema.digest()


def _fingerprint(rows: Array, schema: Schema) -> str:
    return hashlib.sha256(join(_digest(schema), str(rows.shape[0])) + rows.tobytes()).hexdigest()


def _extension(node: Node, project: Project, columns: Columns) -> list[Write]:
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
    node: Node,
    project: Project,
    batch: Moments,
    fingerprint: str,
    rows: int,
    operations: Sequence[str],
    also: list[Write],
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
            records.put(project.partition, DELTA + id_, delta, ABSENT), *_marks(node, project, operations), *also
        )
    except ConditionFailed:
        folding.discard_blob(node, project, blob)
        raise
    step("learn.commit")
    if not still_there(node, project):
        # Deleted meanwhile: this learn must not be acknowledged, nor stay behind.
        sweep(node, project.uid)
        find(node, project.cid, project.pid)
        raise InvalidRequest(f"the project '{project.pid}' was deleted and made again meanwhile; repeat the call")


def _marks(node: Node, project: Project, operations: Sequence[str]) -> list[Write]:
    """The writes that remember idempotent calls for as long as they may be repeated."""
    now = node.clock()
    mark, until = records.Operation(int(now * 1000)), int(now) + OPERATION_MEMORY_S
    return [records.put(project.partition, OPERATION + operation, mark, ABSENT, until) for operation in operations]


def _is_known(node: Node, project: Project, operation: str | None) -> bool:
    return operation is not None and node.state.get(project.partition, OPERATION + operation) is not None


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
    folding.discard_blob(node, project, delta.record.blob)


def _check_foldable(node: Node, project: Project, state: LocalState, forgotten: Moments | None = None) -> None:
    """Raises InvalidRequest unless the rows add up, without those of a batch to forget. Raises BlobMissing."""
    try:
        total = folding.fold(node, project, state)
        if forgotten is not None:
            if total is None:
                raise ValueError("the project has none")
            merge.subtract(*folding.widened(total, forgotten))
    except ValueError as error:
        raise InvalidRequest(f"cannot forget these rows: {error}") from error
