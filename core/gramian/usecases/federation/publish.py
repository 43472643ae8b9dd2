"""Making a publication so in the transport (protocol.md, pulse step 2, second half).

Everything here can be repeated after any interruption: the bytes are kept, and only what is missing is put again.
"""

from __future__ import annotations

from contextlib import suppress
from secrets import token_hex

import msgspec

from gramian.domain import crypto
from gramian.domain.protocol import head as heads
from gramian.domain.protocol.head import Head
from gramian.errors import BlobCorrupt, BlobMissing, ContentMissing, Unavailable
from gramian.faults import step
from gramian.node import Node
from gramian.ports import Entry, Link
from gramian.usecases import records
from gramian.usecases.federation.lease import LEASE_S
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.publication import (
    Stored,
    cek_context,
    current,
    mark_lost,
    next_epoch,
    own_head,
    replaced,
    stale_after,
    written,
)


def realise(node: Node, member: Member, link: Link, stored: Stored, entry: Entry | None) -> Stored:
    """Put what is missing of the publication into the transport. Raises TransportError; then nothing is lost."""
    found = own_head(member, entry)
    if stored.record.state == "data" and not stored.record.stored:
        stored = _recovered(node, member, link, stored, found)
    # First what nobody reads any more: a full transport must be able to recover.
    stored = _free_stale(node, member, link, stored, kept=found.blob_id if found else "")
    if _lacks_bytes(member, link, stored.record):
        stored = replaced(node, member, stored, placed=_put_blob(node, member, link, stored))
    step("publish.blob")
    publication = stored.record
    if not _shows(found, member, publication):
        if publication.confirmed or (found is not None and found.epoch >= publication.epoch):
            # Lost, overwritten, replayed, or it says something else: the same bytes under a new epoch.
            epoch = next_epoch(node, publication, found)
            stored = replaced(node, member, stored, epoch=epoch, confirmed=False)
        message = heads.pack(_head(node, member, stored.record), member.own.signing)
        link.put_head(member.fed_id, member.peer_id, message, expect=entry.revision if entry else None)
        step("publish.head")
    if not stored.record.confirmed:
        stored = replaced(node, member, stored, confirmed=True)
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
        stored = written(node, member)
    realise(node, member, link, stored, entry)


def _farewell(node: Node, old: records.Publication, found: Head | None) -> records.Publication:
    """A publication without a blob."""
    return msgspec.structs.replace(
        old,
        epoch=next_epoch(node, old, found),
        source="",
        blob_id=token_hex(16),
        stored=crypto.sha256(b""),
        snapshot="",
        placed="",
        rows=0,
        size=0,
        chunks=0,
        state="left",
        confirmed=False,
        stale=stale_after(old),
    )


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
        cek = node.vault.open(publication.cek, cek_context(member))
        place = {"fed_id": member.fed_id, "peer_id": member.peer_id, "blob_id": publication.blob_id}
        clear = b"".join(heads.decrypt_chunks(heads.Chunks(data, publication.chunk_size), cek, **place))
    uid = member.project.uid
    return replaced(node, member, stored, stored=node.blobs.put(uid, data), snapshot=node.blobs.put(uid, clear))


def _lacks_bytes(member: Member, link: Link, publication: records.Publication) -> bool:
    """Whether chunks are missing in the transport, or somebody wrote over them."""
    if not publication.chunks:
        return False
    if not publication.placed:
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
    chunks = heads.Chunks(data, publication.chunk_size)
    try:
        return link.put_blob(member.fed_id, member.peer_id, publication.blob_id, chunks)
    except ContentMissing:
        # Blobs live in the memory of the transport: after a restart even their place is gone.
        member.make_place(link)
        return link.put_blob(member.fed_id, member.peer_id, publication.blob_id, chunks)


def _head(node: Node, member: Member, publication: records.Publication) -> Head:
    wrap = ""
    if publication.cek:
        wrap = heads.wrap_key(
            node.vault.open(publication.cek, cek_context(member)),
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
        explore=member.record.explore,
    )


def _shows(found: Head | None, member: Member, publication: records.Publication) -> bool:
    shown = (publication.epoch, publication.blob_id, publication.stored, member.record.explore)
    return found is not None and (found.epoch, found.blob_id, found.blob_sha, found.explore) == shown


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
    return replaced(node, member, stored, stale=waiting + once)
