"""Files that are sent past the REST API and learned in chunks. Imports no numpy.

The statistics of what was read so far are kept with the position behind it, in one record: a job that is killed goes on
from there, and nothing counts twice. They become rows of the project at the end, all at once, in the very write that
marks the upload as learned: a file with a mistake in its last row adds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING

import msgspec

from gramian.domain.names import attribute_name
from gramian.domain.tables.table import FORMATS, Position, Table, choose, open_table
from gramian.errors import BlobCorrupt, BlobMissing, ConditionFailed, InvalidRequest, TooLarge, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Arrived, Delete, Ticket, Write
from gramian.usecases import jobs, records
from gramian.usecases.federation import gpu
from gramian.usecases.projects import ledger
from gramian.usecases.projects.lifecycle import Project
from gramian.usecases.records import UPLOAD

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Moments

TICKET_S = 3600
KEEP_S = 7 * 24 * 3600
"""So long after its creation an upload can be learned."""
MAX_UPLOADS = 100
"""Most uploads of a project at once."""
CHECKPOINT_S = 10.0
"""Time between two notes of how far the reading is."""


class Columns(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a caller wants of a file: types of columns by name; the others are ignored."""

    attribute_names: list[str]
    attribute_types: list[str]


class Learn(msgspec.Struct, frozen=True):
    """What a job learns. `types`: as given, None to infer them."""

    upload: str
    types: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """An upload's id, and where to send it until `expires_at` (unix seconds)."""

    id: str
    ticket: Ticket
    expires_at: int


def create(node: Node, project: Project, kind: str, size_bytes: int) -> Created:
    """Make place for a file of exactly so many bytes. Raises InvalidRequest, TooLarge."""
    if kind not in FORMATS:
        known = "; ".join(f"{name} ({meaning})" for name, meaning in FORMATS.items())
        raise InvalidRequest(f"the format '{kind[:40]}' is not known; send {known}")
    limit = node.settings.upload_limit_bytes
    if not 0 < size_bytes <= limit:
        raise TooLarge(f"an upload may have 1 to {limit} bytes, not {size_bytes}; send the rows in several files")
    others = records.listed(node.state, project.partition, UPLOAD, records.Upload).values()
    if sum(not stored.record.learned for stored in others) >= MAX_UPLOADS:
        raise InvalidRequest(f"the project has {MAX_UPLOADS} uploads: learn or delete them first")
    id_, now = token_hex(16), int(node.clock())
    made = records.Upload(kind, size_bytes, now, now + TICKET_S)
    node.state.write(records.put(project.partition, UPLOAD + id_, made, ABSENT, now + KEEP_S))
    ticket = node.uploads.ticket(project.uid, id_, size_bytes=size_bytes, expires_at=made.expires_at)
    return Created(id_, ticket, made.expires_at)


def learn(node: Node, project: Project, id_: str, columns: Columns | None) -> int:
    """Have an upload that has arrived learned in the background; returns the number of the job that does it.

    Repeated, the same job, unless that failed. Raises InvalidRequest.
    """
    upload = _load(node, project, id_).record
    if not upload.learned:
        _check_arrived(upload, node.uploads.find(project.uid, id_))
    wanted = Learn(id_, None if columns is None else _types(columns))
    elsewhere = gpu.is_elsewhere(node, project)
    return gpu.submit(node, project, "upload", wanted, operation=f"upload {id_}", elsewhere=elsewhere)


def delete(node: Node, project: Project, id_: str) -> None:
    """Forget an upload with its file; a job that reads it fails. What was learned stays. Raises InvalidRequest."""
    upload = _load(node, project, id_).record
    node.state.write(Delete(project.partition, UPLOAD + id_))
    node.uploads.delete(project.uid, id_)
    if upload.blob:
        node.blobs.delete(project.uid, upload.blob)


def run(task: jobs.Task) -> None:
    """The job: read what is not read yet, then count it. Raises InvalidRequest, Unavailable."""
    node, project, wanted = task.node, task.project(), task.arguments(Learn)
    stored = _load(node, project, wanted.upload)
    if not stored.record.learned:
        _learn(task, project, wanted, stored)
    learned = _load(node, project, wanted.upload).record
    node.uploads.delete(project.uid, wanted.upload)
    ignored = f"; ignored: {', '.join(learned.ignored)[:500]}" if learned.ignored else ""
    task.progress(1, 1, f"{learned.rows} rows learned{ignored}")


def _learn(task: jobs.Task, project: Project, wanted: Learn, stored: records.Stored[records.Upload]) -> None:
    node = task.node
    arrived = node.uploads.find(project.uid, wanted.upload)
    if arrived is None:
        raise InvalidRequest("the file is not there any more: create another upload")
    with node.uploads.open(project.uid, wanted.upload, arrived.tag) as file:
        table = open_table(stored.record.format, file, arrived.size_bytes)
        known = ledger.attributes(node, project)
        types = dict(zip(known.names, known.types, strict=True))
        columns, ignored = choose(table, wanted.types, types)
        begun = _prepared(node, project, stored, arrived.tag, columns, ignored)
        reading = _Reading(task, project, wanted.upload, begun)
        total = reading.through(table)
    _count(node, project, reading, total)


def _prepared(
    node: Node,
    project: Project,
    stored: records.Stored[records.Upload],
    tag: str,
    columns: Sequence[tuple[str, str]],
    ignored: Sequence[str],
) -> records.Stored[records.Upload]:
    """The record to go on from; from the start if it is of other content or columns, or its statistics are lost."""
    old = stored.record
    if (old.tag, old.columns) == (tag, list(columns)):
        return stored
    if old.blob:
        node.blobs.delete(project.uid, old.blob)
    fresh = msgspec.structs.replace(
        old, tag=tag, columns=list(columns), ignored=list(ignored), offset=0, rows=0, blob=""
    )
    return records.Stored(fresh, stored.version)


@dataclass(slots=True)
class _Reading:
    """One job's way through a file; `stored` is its last note."""

    task: jobs.Task
    project: Project
    id: str
    stored: records.Stored[records.Upload]

    def through(self, table: Table) -> Moments | None:
        """The statistics of the whole file, None for no rows; noted on the way. Raises jobs.Paused."""
        from gramian.domain.statistics import merge
        from gramian.domain.statistics.schema import Schema

        node, columns = self.task.node, [(name, kind) for name, kind in self.stored.record.columns]
        schema, types = Schema.of(columns), dict(columns)
        ordered = [(name, types[name]) for name in schema.names]
        total, noted_at = self._resumed(), -math.inf
        start = Position(self.stored.record.offset, self.stored.record.rows)
        for chunk in table.chunks(ordered, start):
            try:
                batch = node.compute.accumulate(chunk.rows, schema)
                total = batch if total is None else merge.add(total, batch)
            except ValueError as error:
                raise InvalidRequest(f"rows {start.rows + 1} to {chunk.end.rows}: {error}") from error
            start = chunk.end
            self.task.progress(start.offset, max(table.length, 1), f"{start.rows} rows read")
            is_late = self.task.is_late()
            if is_late or (start.offset < table.length and node.clock() >= noted_at + CHECKPOINT_S):
                self._note(start, total)
                noted_at = node.clock()
            if is_late:
                raise jobs.Paused
        self.stored = records.Stored(
            msgspec.structs.replace(self.stored.record, offset=start.offset, rows=start.rows), self.stored.version
        )
        return total

    def _resumed(self) -> Moments | None:
        from gramian.usecases.projects import folding

        if not self.stored.record.blob:
            return None
        try:
            return folding.snapshot_of(self.task.node, self.project, self.stored.record.blob)
        except (BlobMissing, BlobCorrupt):
            self.task.node.blobs.delete(self.project.uid, self.stored.record.blob)
            start_over = msgspec.structs.replace(self.stored.record, offset=0, rows=0, blob="")
            self.stored = records.Stored(start_over, self.stored.version)
            return None

    def _note(self, end: Position, total: Moments) -> None:
        """Keep how far the reading is. Raises Unavailable if another process reads the same file."""
        from gramian.domain.statistics import snapshot

        node, old = self.task.node, self.stored.record
        blob = node.blobs.put(self.project.uid, snapshot.encode(total, local=True, extra={"unit": token_hex(8)}))
        step("upload.blob")
        noted = msgspec.structs.replace(old, offset=end.offset, rows=end.rows, blob=blob)
        try:
            node.state.write(_put(self.project, self.id, noted, self.stored.version))
        except ConditionFailed as error:
            node.blobs.delete(self.project.uid, blob)
            raise _elsewhere() from error
        step("upload.noted")
        if old.blob:
            node.blobs.delete(self.project.uid, old.blob)
        self.stored = _load(node, self.project, self.id)
        if self.stored.record != noted:
            raise _elsewhere()


def _count(node: Node, project: Project, reading: _Reading, total: Moments | None) -> None:
    """Make what was read rows of the project, once. Raises InvalidRequest, Unavailable."""
    from gramian.usecases.projects import rows

    last = reading.stored.record
    learned = msgspec.structs.replace(last, learned=True, blob="")

    def mark() -> list[Write]:
        if _load(node, project, reading.id).version != reading.stored.version:
            raise _elsewhere()
        return [_put(project, reading.id, learned, reading.stored.version)]

    if total is None:
        node.state.write(*mark())
    else:
        # No batch has this fingerprint: forgetting subtracts its rows.
        rows.add(node, project, tuple(learned.columns), total, f"upload {reading.id}", also=mark)
    step("upload.learned")
    if last.blob:
        node.blobs.delete(project.uid, last.blob)


def _load(node: Node, project: Project, id_: str) -> records.Stored[records.Upload]:
    stored = records.load(node.state, project.partition, UPLOAD + id_[:64], records.Upload)
    if stored is None:
        raise InvalidRequest(f"the project '{project.pid}' has no upload '{id_[:40]}'; uploads are kept for 7 days")
    return stored


def _check_arrived(upload: records.Upload, arrived: Arrived | None) -> None:
    if arrived is None:
        raise InvalidRequest("the file has not arrived yet: PUT it to the address that the upload was created with")
    if arrived.size_bytes != upload.size_bytes:
        raise InvalidRequest(
            f"the file has {arrived.size_bytes} bytes, {upload.size_bytes} were announced: create another upload"
        )


def _put(project: Project, id_: str, upload: records.Upload, expect: str) -> Write:
    return records.put(project.partition, UPLOAD + id_, upload, expect, upload.created_at + KEEP_S)


def _types(columns: Columns) -> dict[str, str]:
    """Raises InvalidRequest unless each name has one type."""
    names = [attribute_name(name) for name in columns.attribute_names]
    types = [kind.upper() for kind in columns.attribute_types]
    if len(names) != len(types) or len(set(names)) != len(names):
        raise InvalidRequest(f"there are {len(set(names))} different attributeNames and {len(types)} attributeTypes")
    return dict(zip(names, types, strict=True))


def _elsewhere() -> Unavailable:
    return Unavailable("another process reads this upload")
