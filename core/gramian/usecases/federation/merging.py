"""From accepted snapshots to federated statistics (protocol.md, pulse step 4): a pure function of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gramian.domain import crypto
from gramian.domain.canonical import join
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.digest import content_digest, denormals_work
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.trie import fold
from gramian.errors import BlobCorrupt, BlobMissing, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Delete
from gramian.usecases import records
from gramian.usecases.federation import accept, journal, publication
from gramian.usecases.federation.membership import Member
from gramian.usecases.records import FEDERATED


@dataclass(frozen=True, slots=True)
class Merged:
    """`superseded`: the blob that this merge replaced, empty if nothing changed."""

    federated: records.Federated | None
    changed: bool = False
    superseded: str = ""


def fed_inputs(roster_v: int, accepted: Mapping[str, records.Accepted]) -> str:
    """SHA-256 over the roster's version and every member's (id, epoch, content digest), by id."""
    parts = [join(id_, str(entry.epoch), entry.content_digest) for id_, entry in sorted(accepted.items())]
    return crypto.sha256(join(str(roster_v), *parts))


def current(node: Node, partition: str) -> records.Stored[records.Federated] | None:
    return records.load(node.state, partition, FEDERATED, records.Federated)


def merge_all(node: Node, member: Member, schema: Schema | None) -> Merged:
    """Add up what is accepted from active members, this node's own publication included, unless nothing changed."""
    if not denormals_work():
        raise Unavailable("this process flushes denormal numbers to zero, so its bits would differ from other nodes'")
    before = current(node, member.project.partition)
    accepted = _counting(node, member, schema)
    if before is not None and before.record.inputs == fed_inputs(member.roster.v, accepted):
        return Merged(before.record)
    snapshots, lost = _loaded(node, member, accepted)
    inputs = fed_inputs(member.roster.v, {id_: entry for id_, entry in accepted.items() if id_ not in lost})
    if not snapshots:
        return _nothing_left(node, member, before, lost)
    total = fold(snapshots)
    blob = node.blobs.put(member.project.uid, snapshot.encode(total))
    step("merge.blob")
    federated = records.Federated(
        inputs, content_digest(total), blob, total.n, member.roster.v, int(node.clock() * 1000)
    )
    node.state.write(records.put(member.project.partition, FEDERATED, federated, before.version if before else ABSENT))
    step("merge.commit")
    return Merged(federated, True, before.record.blob if before else "")


def _nothing_left(
    node: Node, member: Member, before: records.Stored[records.Federated] | None, lost: set[str]
) -> Merged:
    """Nobody shares any rows now: what was shared before must not count for ever. What is only lost comes back."""
    if before is None or lost:
        return Merged(before.record if before else None)
    node.state.write(Delete(member.project.partition, FEDERATED, before.version))
    return Merged(None, True, before.record.blob)


def _counting(node: Node, member: Member, schema: Schema | None) -> dict[str, records.Accepted]:
    """What counts, by peer id."""
    active = {peer.id for peer in member.roster.active()}
    return {
        id_: entry.record
        for id_, entry in accept.accepted(node, member).items()
        if id_ in active and entry.record.state != "lost" and _fits(entry.record, schema)
    }


def _loaded(
    node: Node, member: Member, accepted: Mapping[str, records.Accepted]
) -> tuple[dict[str, Moments], set[str]]:
    """Snapshots by peer id, and the ids of those that the store has lost: they are taken in anew at the next pulse."""
    snapshots, lost = {}, set()
    for id_, entry in accepted.items():
        try:
            if entry.blob:
                snapshots[id_] = load(node, member, entry.blob)
        except (BlobMissing, BlobCorrupt) as error:
            journal.error(node, member.project, f"a stored snapshot is lost and is fetched again: {error}", id_)
            accept.mark_lost(node, member, id_)
            if id_ == member.peer_id:
                publication.mark_lost(node, member)
            lost.add(id_)
    return snapshots, lost


def _fits(entry: records.Accepted, schema: Schema | None) -> bool:
    """A snapshot that was accepted before the schema was pinned may have another one."""
    return entry.state == "left" or schema is None or entry.schema_digest == schema.digest()


def load(node: Node, member: Member, blob: str) -> Moments:
    return snapshot.decode(node.blobs.get(member.project.uid, blob))
