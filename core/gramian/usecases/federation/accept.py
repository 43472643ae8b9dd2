"""Taking in other members' snapshots (protocol.md, pulse step 3): verified, or their last good one stays."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import SystemRandom

import msgspec

from gramian import events
from gramian.domain import crypto
from gramian.domain.canonical import Data, canonical_json
from gramian.domain.protocol import head as heads
from gramian.domain.protocol.head import Head
from gramian.domain.protocol.roster import MAX_MEMBERS
from gramian.domain.protocol.roster import Member as Peer
from gramian.domain.statistics import snapshot
from gramian.domain.statistics.checks import verify
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.layout import shapes
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema
from gramian.errors import ContentMissing, Refused, TransportError, TransportUnavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Chunk, Cut, Entry, Link
from gramian.usecases import records
from gramian.usecases.federation import journal
from gramian.usecases.federation.membership import Member
from gramian.usecases.records import PEER

# A function of its arguments alone; most heads are those of the last pulse.
_opened_head = lru_cache(maxsize=2 * MAX_MEMBERS)(heads.open_head)

EMPTY_DIGEST = ""
HEADER_BYTES = 4096
FETCH_ATTEMPTS = 3


@dataclass
class Outcome:
    """What one pass over the members did. `superseded`: blobs that nothing needs any more."""

    accepted: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)


def accepted(node: Node, member: Member) -> dict[str, records.Stored[records.Accepted]]:
    """Every peer's last good snapshot by peer id, this node's own published one included."""
    return records.listed(node.state, member.project.partition, PEER, records.Accepted)


def take_in(
    node: Node, member: Member, link: Link, cut: Cut, schema: Schema | None, keep_lease: Callable[[], None]
) -> Outcome:
    """Look at every other active member's head; fetch, check and store what is new. One bad peer stops nobody else.

    Without a `schema` the first good snapshot sets it. A transport that fails ends the pass early, in an order that
    differs each time, so that no peer starves the others.
    """
    taker = _Taker(node, member, link, schema, accepted(node, member))
    peers = [peer for peer in member.roster.active() if peer.id in cut.heads and peer.id != member.peer_id]
    SystemRandom().shuffle(peers)
    for peer in peers:
        keep_lease()
        try:
            taker.take(peer, cut.heads[peer.id])
        except TransportUnavailable as error:
            taker.note(peer, error)
            break
    return taker.outcome


class _Taker:
    """One pass over the members."""

    def __init__(
        self,
        node: Node,
        member: Member,
        link: Link,
        schema: Schema | None,
        known: dict[str, records.Stored[records.Accepted]],
    ) -> None:
        self.outcome = Outcome()
        self._node = node
        self._member = member
        self._link = link
        self._schema = schema
        self._known = known

    def take(self, peer: Peer, entry: Entry) -> None:
        """Raises TransportUnavailable; whatever else is wrong with the peer is noted."""
        try:
            self._take_newest(peer, entry)
        except TransportUnavailable:
            raise
        except (Refused, TransportError, ValueError) as error:
            self.note(peer, error)

    def _take_newest(self, peer: Peer, entry: Entry) -> None:
        """Look again if it published anew between the cut and the fetch; not for ever, for it may do so on purpose."""
        for _ in range(FETCH_ATTEMPTS):
            try:
                return self._take(peer, entry)
            except ContentMissing:
                later = self._link.cut(self._member.fed_id, [peer.id]).heads.get(peer.id)
                if later is None or later.data == entry.data:
                    raise
                entry = later
        raise ContentMissing("it publishes faster than its snapshots can be fetched")

    def note(self, peer: Peer, error: Exception) -> None:
        """Log and count what is wrong; the peer's last good snapshot stays."""
        journal.error(self._node, self._member.project, str(error), peer.id)
        self.outcome.errors[peer.id] = self.outcome.errors.get(peer.id, 0) + 1
        self._node.observe(events.SnapshotRefused(*self._member.ids, peer.id, str(error)))

    def _take(self, peer: Peer, entry: Entry) -> None:
        head = _opened_head(entry.data, self._member.fed_id, peer.id, bytes.fromhex(peer.ed))
        known = self._known.get(peer.id)
        if not _is_news(self._member, head, known):
            return
        record = self._record(head, known.record if known else None)
        place = self._member.project.partition
        self._node.state.write(records.put(place, PEER + peer.id, record, known.version if known else ABSENT))
        step("accept.commit")
        self.outcome.accepted += 1
        self._node.observe(events.SnapshotAccepted(*self._member.ids, peer.id, record.epoch, record.rows))
        if known is not None and known.record.blob:
            self.outcome.superseded.append(known.record.blob)

    def _record(self, head: Head, known: records.Accepted | None) -> records.Accepted:
        now = int(self._node.clock() * 1000)
        if head.state == "left":
            return records.Accepted(head.epoch, EMPTY_DIGEST, head.blob_sha, "", "", 0, now, "left", head.explore)
        data, moments = _fetch(self._member, self._link, head, self._schema)
        self._schema = self._schema or moments.schema
        blob = self._node.blobs.put(self._member.project.uid, data)
        step("accept.blob")
        # The same statistics under a new head are not fresher for that.
        at = known.at if known is not None and known.content_digest == head.content_digest else now
        return records.Accepted(
            head.epoch,
            head.content_digest,
            head.blob_sha,
            blob,
            moments.schema.digest(),
            moments.n,
            at,
            explore=head.explore,
        )


def note_own(node: Node, member: Member, publication: records.Publication) -> None:
    """This node's own published snapshot enters the merge like everybody's."""
    stored = records.load(node.state, member.project.partition, PEER + member.peer_id, records.Accepted)
    if stored is not None and stored.record.epoch == publication.epoch and stored.record.state != "lost":
        return
    same = stored is not None and stored.record.content_digest == publication.content_digest
    own = records.Accepted(
        publication.epoch,
        publication.content_digest,
        publication.stored,
        publication.snapshot,
        publication.schema_digest,
        publication.rows,
        stored.record.at if stored is not None and same else int(node.clock() * 1000),
    )
    node.state.write(
        records.put(member.project.partition, PEER + member.peer_id, own, stored.version if stored else ABSENT)
    )


def mark_lost(node: Node, member: Member, peer_id: str) -> None:
    """The stored snapshot of a member is gone or damaged: take it in anew at the next pulse."""
    records.revise(
        node.state,
        member.project.partition,
        PEER + peer_id,
        records.Accepted,
        lambda record: msgspec.structs.replace(record, blob="", state="lost"),
    )


def _is_news(member: Member, head: Head, known: records.Stored[records.Accepted] | None) -> bool:
    """Raises Refused for replays and equivocation."""
    if head.epoch < member.record.checkpoint.get(head.id, 0):
        raise Refused("its head is older than the admin's checkpoint")
    if known is None or head.epoch > known.record.epoch:
        return True
    if known.record.state == "lost" and head.epoch == known.record.epoch:
        return True
    if head.epoch < known.record.epoch:
        raise Refused("its head is older than one that was accepted before")
    if head.state == "data" and head.blob_sha != known.record.blob_sha:
        raise Refused("it published two different snapshots under one epoch; the first stays")
    return False


def _fetch(member: Member, link: Link, head: Head, schema: Schema | None) -> tuple[Data, Moments]:
    """The clear bytes and what they say. Raises Refused, ContentMissing."""
    limit = member.roster.policy.max_blob_bytes
    if schema is not None:
        limit = min(limit, _most_bytes(schema) + head.chunks * crypto.TAG_BYTES)
    if head.size > limit:
        raise Refused(f"its snapshot claims {head.size} bytes; the federation's attributes need at most {limit}")
    chunks = list(link.get_blob(head.fed_id, head.id, head.blob_id, head.chunks, max_bytes=head.size))
    if not _is_announced(head, chunks):
        raise Refused("its snapshot is not the one that its head announces")
    clear = _clear(member, head, chunks)
    moments = snapshot.decode(clear, schema=schema)
    if content_digest(moments) != head.content_digest:
        raise Refused("its statistics are not those that its head announces")
    verify(moments)
    return clear, moments


def _most_bytes(schema: Schema) -> int:
    """No snapshot of these attributes is larger: a gap in every column, and room for the names in its header."""
    arrays = sum(8 * math.prod(shape) for shape in shapes(schema, len(set(schema.groups))).values())
    return arrays + 16 * len(canonical_json(schema.to_json())) + HEADER_BYTES


def _is_announced(head: Head, chunks: Sequence[Chunk]) -> bool:
    """Whether these are the bytes, cut where the head says."""
    sha = hashlib.sha256()
    for chunk in chunks:
        sha.update(chunk)
    whole = all(len(chunk) == head.chunk_size for chunk in chunks[:-1])
    return whole and sum(map(len, chunks)) == head.size and sha.hexdigest() == head.blob_sha


def _clear(member: Member, head: Head, chunks: list[Chunk]) -> bytearray:
    """The snapshot in one piece. Takes the chunks away one by one: large ones are not to be held twice."""
    parts: Iterator[Chunk] = iter(chunks)
    size = head.size
    if head.wrap:
        cek = heads.unwrap_key(head, member.kek(head.gen))
        parts = heads.decrypt_chunks(chunks, cek, fed_id=head.fed_id, peer_id=head.id, blob_id=head.blob_id)
        size -= head.chunks * crypto.TAG_BYTES
    elif member.roster.policy.fed_encrypt:
        raise Refused("its snapshot is not encrypted, as the federation's policy demands")

    def taken() -> Iterator[Chunk]:
        for index, part in enumerate(parts):
            yield part
            chunks[index] = b""

    return heads.joined(taken(), size)
