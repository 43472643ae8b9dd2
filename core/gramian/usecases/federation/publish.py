"""A node's own publication (protocol.md, pulse step 2).

Two halves. `decide` settles in the store, with one conditional write, what shall be published and under which epoch;
the sharing rules count it as published from then on. `realise` makes it so in the transport and can be repeated after
any interruption: the bytes are kept, and only what is missing is put again.
"""

from __future__ import annotations

from contextlib import suppress
from secrets import token_hex

import msgspec

from gramian.domain import crypto
from gramian.domain.protocol import head as heads
from gramian.domain.protocol import roster, sharing
from gramian.domain.protocol.head import Head
from gramian.domain.statistics import merge, snapshot
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import widen
from gramian.errors import (
    BlobCorrupt,
    BlobMissing,
    ConditionFailed,
    ContentMissing,
    Refused,
    StoreError,
    TooLarge,
    Unavailable,
)
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Entry, Link
from gramian.usecases import records
from gramian.usecases.federation import journal, membership
from gramian.usecases.federation.lease import LEASE_S
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import ledger, rows
from gramian.usecases.projects.lifecycle import Project

ATTEMPTS = 5
MAX_SCHEMA_CHARS = 200_000
"""The rest of the roster is for members and generations: evicting and inviting must always be possible."""

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


def own_schema(node: Node, member: Member) -> Schema | None:
    """The schema of this node's own rows, None before it has any."""
    known = ledger.attributes(node, member.project)
    return rows.schema_of(known) if known.names else None


def decide(node: Node, member: Member, link: Link, found: Head | None) -> tuple[Member, Stored | None]:
    """Settle what this node publishes; the admin pins the federation's schema first."""
    lost = False
    for _ in range(ATTEMPTS):
        stored = current(node, member)
        base = rows.compact(node, member.project)
        if not base.record.blob:
            return member, stored
        schema = own_schema(node, member)
        assert schema is not None, "there are rows"
        try:
            _check_schema(member, schema)
            if not _is_due(member, link, stored, base.record):
                return member, stored
            reason = _obstacle(stored, base.record, schema)
            if reason is not None:
                journal.sync(node, member.project, f"nothing published: {reason}", repeat=False)
                return member, stored
            member = _pinned(node, member, schema)
            return member, _settle(node, member, link, stored, base, schema, found)
        except (ConditionFailed, BlobMissing) as error:
            # Rows were learned or folded meanwhile; if they always are, the next pulse publishes.
            lost = isinstance(error, BlobMissing)
            continue
        except (Refused, TooLarge) as error:
            journal.error(node, member.project, f"nothing published: {error}")
            return member, stored
    if lost:
        raise StoreError(f"rows of '{member.project.pid}' are lost: restore the home from a backup")
    return member, current(node, member)


def realise(node: Node, member: Member, link: Link, stored: Stored, entry: Entry | None) -> Stored:
    """Put what is missing of the publication into the transport. Raises TransportError; then nothing is lost."""
    found = own_head(member, entry)
    if stored.record.state == "data" and not stored.record.stored:
        stored = _recovered(node, member, link, stored, found)
    # First what nobody reads any more: a full transport must be able to recover.
    stored = _free_stale(node, member, link, stored, kept=found.blob_id if found else "")
    if _lacks_bytes(member, link, stored.record):
        stored = _replaced(node, member, stored, placed=_put_blob(node, member, link, stored))
    step("publish.blob")
    publication = stored.record
    if not _shows(found, publication):
        if publication.confirmed or (found is not None and found.epoch >= publication.epoch):
            # Lost, overwritten or replayed: the same bytes under a new epoch.
            epoch = _next_epoch(node, publication, found)
            stored = _replaced(node, member, stored, epoch=epoch, confirmed=False)
        message = heads.pack(_head(node, member, stored.record), member.own.signing)
        link.put_head(member.fed_id, member.peer_id, message, expect=entry.revision if entry else None)
        step("publish.head")
    if not stored.record.confirmed:
        stored = _replaced(node, member, stored, confirmed=True)
    return _free_stale(node, member, link, stored, kept=stored.record.blob_id)


def withdraw(node: Node, member: Member, link: Link, entry: Entry | None) -> None:
    """Leave: settle in one group of writes that this node shares nothing any more, then publish it. May be repeated."""
    stored, place = current(node, member), member.project.partition
    left = records.put(
        place, records.FEDERATION, msgspec.structs.replace(member.record, left=True), member.record_version
    )
    if stored is None:
        node.state.write(left)
        return
    if stored.record.state != "left":
        farewell = _farewell(node, stored.record, own_head(member, entry))
        node.state.write(left, records.put(place, records.PUBLICATION, farewell, stored.version))
        step("leave.decided")
        stored = _current(node, member)
    realise(node, member, link, stored, entry)


def mark_lost(node: Node, member: Member) -> None:
    """The bytes of the publication are gone from the blob store: make them anew at the next pulse."""
    records.revise(
        node.state,
        member.project.partition,
        records.PUBLICATION,
        records.Publication,
        lambda publication: msgspec.structs.replace(publication, stored=""),
    )


def _current(node: Node, member: Member) -> Stored:
    stored = current(node, member)
    assert stored is not None, "it was just written"
    return stored


def _farewell(node: Node, old: records.Publication, found: Head | None) -> records.Publication:
    """A publication without a blob."""
    return msgspec.structs.replace(
        old,
        epoch=_next_epoch(node, old, found),
        source="",
        blob_id=token_hex(16),
        placed="",
        rows=0,
        size=0,
        chunks=0,
        state="left",
        confirmed=False,
        stale=_stale_after(old),
    )


def _stale_after(old: records.Publication) -> list[records.StaleBlob]:
    return [*old.stale, records.StaleBlob(old.blob_id, old.chunks)] if old.chunks else old.stale


def _recovered(node: Node, member: Member, link: Link, stored: Stored, found: Head | None) -> Stored:
    """The publication with its bytes fetched back from the transport. Raises Unavailable if they are not there."""
    publication = stored.record
    data = b""
    if found is not None and found.blob_id == publication.blob_id:
        with suppress(ContentMissing):
            data = b"".join(
                link.get_blob(member.fed_id, member.peer_id, found.blob_id, found.chunks, max_bytes=publication.size)
            )
    if found is None or crypto.sha256(data) != found.blob_sha:
        raise Unavailable("the bytes of this node's publication are lost; its next one replaces them")
    clear = data
    if publication.cek:
        cek = node.vault.open(publication.cek, _cek_context(member))
        place = {"fed_id": member.fed_id, "peer_id": member.peer_id, "blob_id": publication.blob_id}
        clear = b"".join(heads.decrypt_chunks(heads.split(data, publication.chunk_size), cek, **place))
    uid = member.project.uid
    return _replaced(node, member, stored, stored=node.blobs.put(uid, data), snapshot=node.blobs.put(uid, clear))


def _lacks_bytes(member: Member, link: Link, publication: records.Publication) -> bool:
    """Whether chunks are missing in the transport, or somebody wrote over them."""
    if not publication.chunks:
        return False
    if not publication.placed and publication.stored:
        return True
    return bool(
        link.missing_chunks(
            member.fed_id, member.peer_id, publication.blob_id, publication.chunks, since=publication.placed
        )
    )


def _put_blob(node: Node, member: Member, link: Link, stored: Stored) -> str:
    publication = stored.record
    try:
        data = node.blobs.get(member.project.uid, publication.stored)
    except (BlobMissing, BlobCorrupt) as error:
        mark_lost(node, member)
        raise Unavailable("the bytes of this node's publication are lost; the next pulse makes them anew") from error
    chunks = heads.split(data, publication.chunk_size)
    try:
        return link.put_blob(member.fed_id, member.peer_id, publication.blob_id, chunks)
    except ContentMissing:
        # Blobs live in the memory of the transport: after a restart even their place is gone.
        member.make_place(link)
        return link.put_blob(member.fed_id, member.peer_id, publication.blob_id, chunks)


def _is_due(member: Member, link: Link, stored: Stored | None, base: records.Base) -> bool:
    """Whether there is something to publish, or the same must be published in another form."""
    if stored is None or stored.record.source != base.blob or not stored.record.stored:
        return True
    outdated = bool(stored.record.cek) and stored.record.gen != member.roster.gen
    return outdated or stored.record.chunk_size > link.chunk_bytes


def _check_schema(member: Member, schema: Schema) -> None:
    """Raises Refused, naming the difference, unless this node has the federation's attributes."""
    pinned = member.pinned_schema()
    if pinned is not None and pinned != schema:
        raise Refused(f"this node's attributes differ from the federation's: {schema.difference(pinned)}")


def _obstacle(stored: Stored | None, base: records.Base, schema: Schema) -> str | None:
    """Why publishing now would show too few rows; nothing new is shown where only the generation changed."""
    if stored is not None and stored.record.source == base.blob:
        return None
    return sharing.obstacle(len(set(schema.groups)), base.rows, sharing.Group(base.added, base.removed))


def _pinned(node: Node, member: Member, schema: Schema) -> Member:
    """As admin, make this schema the federation's, before the first head shows it."""
    if not member.record.admin or member.roster.policy.schema is not None:
        return member

    def pin(latest: Member) -> dict[str, object] | None:
        policy = latest.roster.policy
        if policy.schema is not None:
            return None
        kek = latest.kek(latest.roster.gen) if policy.fed_encrypt else b""
        text = roster.seal_schema(schema, policy, latest.fed_id, kek)
        if len(text) > MAX_SCHEMA_CHARS:
            raise TooLarge(
                f"the names of the attributes take {len(text)} characters; a federation has room for {MAX_SCHEMA_CHARS}"
            )
        return {"policy": msgspec.structs.replace(policy, schema=text)}

    return membership.change_roster(node, member, pin)


def _settle(
    node: Node,
    member: Member,
    link: Link,
    stored: Stored | None,
    base: records.Stored[records.Base],
    schema: Schema,
    found: Head | None,
) -> Stored:
    """Raises ConditionFailed if rows or publication changed meanwhile, Refused for statistics that cannot be shown."""
    uid, policy, old = member.project.uid, member.roster.policy, stored.record if stored else None
    shown = _for_others(rows.snapshot_of(node, member.project, base.record.blob), schema)
    clear = snapshot.encode(shown)
    blob_id = token_hex(16)
    kek = member.kek(member.roster.gen)
    data, cek = clear, b""
    if policy.fed_encrypt:
        cek = heads.new_content_key()
        place = {"fed_id": member.fed_id, "peer_id": member.peer_id, "blob_id": blob_id}
        data = b"".join(heads.encrypt_chunks(clear, link.chunk_bytes, cek, **place))
    stored_blob = node.blobs.put(uid, data)
    publication = records.Publication(
        epoch=_next_epoch(node, old, found),
        source=base.record.blob,
        blob_id=blob_id,
        stored=stored_blob,
        snapshot=node.blobs.put(uid, clear) if cek else stored_blob,
        rows=shown.n,
        size=len(data),
        chunks=-(-len(data) // link.chunk_bytes),
        chunk_size=link.chunk_bytes,
        content_digest=content_digest(shown),
        schema_digest=schema.digest(),
        schema_hash=heads.schema_hash(schema, encrypt=policy.fed_encrypt, kek=kek),
        gen=member.roster.gen,
        cek=node.vault.seal(cek, _cek_context(member)) if cek else "",
        stale=_stale_after(old) if old else [],
    )
    shared = msgspec.structs.replace(base.record, added=0, removed=0)
    place_ = member.project.partition
    node.state.write(
        records.put(place_, records.PUBLICATION, publication, stored.version if stored else ABSENT),
        records.put(place_, records.BASE, shared, base.version),
    )
    step("publish.decided")
    return _current(node, member)


def _for_others(local: Moments, schema: Schema) -> Moments:
    """What others may see: the federation's attributes, an origin that no single row decides, no local arrays."""
    wide = widen(local, schema)
    try:
        return clamp(merge.rebase(wide, standard_origin(wide)))
    except ValueError as error:
        raise Refused(f"this node's {error}") from error


def _head(node: Node, member: Member, publication: records.Publication) -> Head:
    wrap = ""
    if publication.cek:
        wrap = heads.wrap_key(
            node.vault.open(publication.cek, _cek_context(member)),
            member.kek(publication.gen),
            fed_id=member.fed_id,
            peer_id=member.peer_id,
            epoch=publication.epoch,
            gen=publication.gen,
            blob_id=publication.blob_id,
        )
    return Head(
        fed_id=member.fed_id,
        id=member.peer_id,
        epoch=publication.epoch,
        roster_v=member.roster.v,
        gen=publication.gen,
        blob_id=publication.blob_id,
        chunks=publication.chunks,
        chunk_size=publication.chunk_size,
        size=publication.size,
        blob_sha=publication.stored,
        content_digest=publication.content_digest,
        schema_hash=publication.schema_hash,
        wrap=wrap,
        state=publication.state,
        ts=int(node.clock()),
    )


def _shows(found: Head | None, publication: records.Publication) -> bool:
    if found is None or found.epoch != publication.epoch or found.blob_id != publication.blob_id:
        return False
    # What is stored may be lost; then there is nothing to compare with, and nothing to publish instead.
    return not publication.stored or found.blob_sha == publication.stored


def _next_epoch(node: Node, old: records.Publication | None, found: Head | None) -> int:
    """Above everything that this node ever published, even if its store is an old backup."""
    return max(old.epoch + 1 if old else 0, found.epoch + 1 if found else 0, int(node.clock() * 1000))


def _replaced(node: Node, member: Member, before: Stored, /, **changes: object) -> Stored:
    """Raises ConditionFailed if another pulse changed the publication."""
    record = msgspec.structs.replace(before.record, **changes)
    node.state.write(records.put(member.project.partition, records.PUBLICATION, record, before.version))
    return _current(node, member)


def _free_stale(node: Node, member: Member, link: Link, stored: Stored, *, kept: str) -> Stored:
    """Give room back, now and once more after a lease's time, in case that a frozen pulse was still writing.

    `kept`: the blob that the head in the transport shows."""
    now = int(node.clock())
    stale = [blob for blob in stored.record.stale if blob.blob_id != kept]
    due = [blob for blob in stale if blob.freed_at == 0 or blob.freed_at + LEASE_S < now]
    if not due:
        return stored
    for blob in due:
        link.free_blob(member.fed_id, member.peer_id, blob.blob_id, blob.chunks)
    step("publish.freed")
    once = [msgspec.structs.replace(blob, freed_at=now) for blob in due if blob.freed_at == 0]
    waiting = [blob for blob in stored.record.stale if blob not in due]
    return _replaced(node, member, stored, stale=waiting + once)


def _cek_context(member: Member) -> str:
    return f"content key {member.project.uid}"
