"""Settling what this node publishes (protocol.md, pulse step 2, first half).

One conditional write says what shall be published and under which epoch; the sharing rules count it as published from
then on. `publish` makes it so in the transport."""

from __future__ import annotations

from secrets import token_hex

import msgspec

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
from gramian.errors import BlobMissing, ConditionFailed, Refused, StoreError, TooLarge
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Link
from gramian.usecases import records
from gramian.usecases.federation import journal, membership, publication
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.publication import Stored
from gramian.usecases.projects import folding, ledger

ATTEMPTS = 5
MAX_SCHEMA_CHARS = 200_000
"""The rest of the roster is for members and generations: evicting and inviting must always be possible."""


def decide(node: Node, member: Member, link: Link, found: Head | None) -> tuple[Member, Stored | None]:
    """Settle what this node publishes; the admin pins the federation's schema first."""
    lost = False
    for _ in range(ATTEMPTS):
        stored = publication.current(node, member)
        base = folding.compact(node, member.project)
        if not base.record.blob:
            return member, stored
        schema = ledger.schema(node, member.project)
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
    return member, publication.current(node, member)


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
    if not member.is_admin or member.roster.policy.schema is not None:
        return member

    def pin(latest: Member) -> dict[str, object] | None:
        policy = latest.roster.policy
        if policy.schema is not None or not latest.is_admin:
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
    # No more than two of these are held at a time: a snapshot may have hundreds of megabytes.
    clear = snapshot.encode(_for_others(folding.snapshot_of(node, member.project, base.record.blob), schema))
    shown = snapshot.decode(clear)
    blob_id = token_hex(16)
    kek = member.kek(member.roster.gen)
    data, cek = clear, b""
    if policy.fed_encrypt:
        cek = heads.new_content_key()
        place = {"fed_id": member.fed_id, "peer_id": member.peer_id, "blob_id": blob_id}
        sealed = heads.encrypt_chunks(clear, link.chunk_bytes, cek, **place)
        data = heads.joined(sealed, heads.sealed_size(len(clear), link.chunk_bytes))
    stored_blob = node.blobs.put(uid, data)
    settled = records.Publication(
        epoch=publication.next_epoch(node, old, found),
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
        cek=node.vault.seal(cek, publication.cek_context(member)) if cek else "",
        stale=publication.stale_after(old) if old else [],
    )
    shared = msgspec.structs.replace(base.record, added=0, removed=0)
    place_ = member.project.partition
    node.state.write(
        records.put(place_, records.PUBLICATION, settled, stored.version if stored else ABSENT),
        records.put(place_, records.BASE, shared, base.version),
    )
    step("publish.decided")
    return publication.written(node, member)


def _for_others(local: Moments, schema: Schema) -> Moments:
    """What others may see: the federation's attributes, an origin that no single row decides, no local arrays."""
    wide = widen(local, schema)
    del local
    try:
        moved = merge.rebase(wide, standard_origin(wide))
        del wide
        return clamp(moved)
    except ValueError as error:
        raise Refused(f"this node's {error}") from error
