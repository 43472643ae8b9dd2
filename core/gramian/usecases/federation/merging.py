"""From accepted snapshots to federated statistics (protocol.md, pulse step 4): a pure function of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.digest import content_digest, denormals_work
from gramian.domain.statistics.rows import Rows
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.trie import evaluate, plan
from gramian.errors import BlobCorrupt, BlobMissing, ConditionFailed, Refused, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, ANY, Delete
from gramian.usecases import records
from gramian.usecases.federation import accept, journal, publication
from gramian.usecases.federation.inner_nodes import InnerNodes, load
from gramian.usecases.federation.membership import Member
from gramian.usecases.records import FEDERATED, TRIE


@dataclass(frozen=True, slots=True)
class Merged:
    """`superseded`: blobs that this merge replaced, none if nothing changed."""

    federated: records.Federated | None
    changed: bool = False
    superseded: Sequence[str] = ()


class LostSnapshot(Exception):
    """The stored snapshot of `peer_id` is gone or damaged."""

    def __init__(self, peer_id: str) -> None:
        super().__init__(peer_id)
        self.peer_id = peer_id


def fed_inputs(roster_v: int, accepted: Mapping[str, records.Accepted]) -> str:
    """SHA-256 over the roster's version and every member's (id, epoch, content digest), by id."""
    parts = [join(id_, str(entry.epoch), entry.content_digest) for id_, entry in sorted(accepted.items())]
    return crypto.sha256(join(str(roster_v), *parts))


def current(node: Node, partition: str) -> records.Stored[records.Federated] | None:
    return records.load(node.state, partition, FEDERATED, records.Federated)


def merge_all(node: Node, member: Member, schema: Schema | None) -> Merged:
    """Add up what is accepted from active members, this node's own publication included, unless nothing changed.

    Takes little more memory than the result, whatever the number of members. Raises ConditionFailed if another pulse
    interferes."""
    if not denormals_work():
        raise Unavailable("this process flushes denormal numbers to zero, so its bits would differ from other nodes'")
    before = current(node, member.project.partition)
    accepted = _counting(node, member, schema)
    if before is not None and before.record.inputs == fed_inputs(member.roster.v, accepted):
        return Merged(before.record)
    lost = False
    while any(entry.blob for entry in accepted.values()):
        try:
            return _merged(node, member, accepted, before)
        except LostSnapshot as error:
            del accepted[error.peer_id]
            lost = True
    return _nothing_left(node, member, before, lost=lost)


def _merged(
    node: Node,
    member: Member,
    accepted: Mapping[str, records.Accepted],
    before: records.Stored[records.Federated] | None,
) -> Merged:
    """Raises LostSnapshot, ConditionFailed."""
    uid, partition = member.project.uid, member.project.partition
    root = plan({id_: entry.content_digest for id_, entry in accepted.items() if entry.blob})
    nodes = InnerNodes(node, member.project)
    try:
        total = evaluate(root, lambda id_: loaded(node, member, id_, accepted[id_].blob), nodes)
        data = snapshot.encode(total)
    except (BlobMissing, Refused) as error:  # blocks of large snapshots are read when they are needed
        raise ConditionFailed("a stored snapshot went while it was read") from error
    merged = snapshot.decode(data)
    blob = node.blobs.put(uid, data)
    step("merge.blob")
    inputs, now = fed_inputs(member.roster.v, accepted), int(node.clock() * 1000)
    federated = records.Federated(inputs, content_digest(merged), blob, merged.n, member.roster.v, now)
    kept = nodes.kept(root, blob)
    node.state.write(
        records.put(partition, FEDERATED, federated, before.version if before else ABSENT),
        records.put(partition, TRIE, kept, ANY),
    )
    step("merge.commit")
    return Merged(federated, True, [*nodes.superseded(kept), before.record.blob if before else ""])


def _nothing_left(
    node: Node, member: Member, before: records.Stored[records.Federated] | None, *, lost: bool
) -> Merged:
    """Nobody shares any rows now: what was shared before must not count for ever. What is only lost comes back."""
    if before is None or lost:
        return Merged(before.record if before else None)
    nodes = InnerNodes(node, member.project)
    node.state.write(
        Delete(member.project.partition, FEDERATED, before.version), Delete(member.project.partition, TRIE)
    )
    return Merged(None, True, [*nodes.superseded(records.Trie()), before.record.blob])


def _counting(node: Node, member: Member, schema: Schema | None) -> dict[str, records.Accepted]:
    """What counts, by peer id."""
    active = {peer.id for peer in member.roster.active()}
    wanted = schema.digest() if schema else ""
    return {
        id_: entry.record
        for id_, entry in accept.accepted(node, member).items()
        if id_ in active and entry.record.state != "lost" and _fits(entry.record, wanted)
    }


def loaded(node: Node, member: Member, id_: str, blob: str) -> Rows:
    """A member's stored snapshot. Raises LostSnapshot for what the store has lost: it is taken in anew."""
    try:
        return load(node, member.project, blob)
    except (BlobMissing, BlobCorrupt, Refused) as error:
        journal.error(node, member.project, f"a stored snapshot is lost and is fetched again: {error}", id_)
        accept.mark_lost(node, member, id_)
        if id_ == member.peer_id:
            publication.mark_lost(node, member)
        raise LostSnapshot(id_) from error


def _fits(entry: records.Accepted, wanted: str) -> bool:
    """A snapshot that was accepted before the schema was pinned may have another one."""
    return entry.state == "left" or not wanted or entry.schema_digest == wanted
