"""What this node has decided to publish: its record in the store, and its own head in the transport.

Imports no numpy: to say that it has news, or to leave, a node need not touch statistics."""

from __future__ import annotations

import msgspec

from gramian.domain.protocol import head as heads
from gramian.domain.protocol.head import Head
from gramian.errors import Refused
from gramian.node import Node
from gramian.ports import Entry
from gramian.usecases import records
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects.lifecycle import Project

Stored = records.Stored[records.Publication]


def own_head(member: Member, entry: Entry | None) -> Head | None:
    """The head in the transport, if it is genuinely this node's."""
    if entry is None:
        return None
    try:
        return heads.open_head(entry.data, member.fed_id, member.peer_id, member.own.ed)
    except Refused:
        return None


def current(node: Node, member: Member) -> Stored | None:
    return records.load(node.state, member.project.partition, records.PUBLICATION, records.Publication)


def epoch_of(node: Node, project: Project) -> int:
    """The epoch of what this node has published last, 0 before the first."""
    stored = records.load(node.state, project.partition, records.PUBLICATION, records.Publication)
    return stored.record.epoch if stored else 0


def next_epoch(node: Node, old: records.Publication | None, found: Head | None) -> int:
    """Above everything that this node ever published, even if its store is an old backup."""
    return max(old.epoch + 1 if old else 0, found.epoch + 1 if found else 0, int(node.clock() * 1000))


def stale_after(old: records.Publication) -> list[records.StaleBlob]:
    return [*old.stale, records.StaleBlob(old.blob_id, old.chunks)] if old.chunks else old.stale


def replaced(node: Node, member: Member, before: Stored, /, **changes: object) -> Stored:
    """Raises ConditionFailed if another pulse changed the publication."""
    record = msgspec.structs.replace(before.record, **changes)
    node.state.write(records.put(member.project.partition, records.PUBLICATION, record, before.version))
    return written(node, member)


def written(node: Node, member: Member) -> Stored:
    stored = current(node, member)
    assert stored is not None, "it was just written"
    return stored


def mark_lost(node: Node, member: Member) -> None:
    """The bytes of the publication are gone from the blob store: make them anew at the next pulse."""
    records.revise(
        node.state,
        member.project.partition,
        records.PUBLICATION,
        records.Publication,
        lambda known: msgspec.structs.replace(known, stored="") if known.state == "data" else known,
    )


def cek_context(member: Member) -> str:
    return f"content key {member.project.uid}"
