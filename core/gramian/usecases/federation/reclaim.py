"""Giving room back that members who are gone have left taken: here and, as admin, in the transport."""

from __future__ import annotations

import msgspec

from gramian.domain.protocol.head import Head, open_head
from gramian.domain.protocol.roster import Member as Peer
from gramian.errors import Refused, TransportError
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Cut, Link
from gramian.usecases import records
from gramian.usecases.federation import accept, journal
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import blobs

FREED = "freed/"


class Freed(msgspec.Struct, frozen=True):
    """The blob of a member who is gone that was freed last."""

    blob_id: str


def reclaim(node: Node, member: Member, link: Link, cut: Cut) -> None:
    """Forget the snapshots of those who no longer take part; as admin, free what their heads still show to others.

    Whoever left by itself has freed its own. An evicted one that goes on publishing is freed again and again.
    """
    gone = [peer for peer in member.roster.members if peer.state != "active"]
    _forget(node, member, gone)
    shown = [head for peer in gone if (head := _shown(member, peer, cut)) is not None] if member.is_admin else []
    freed = records.listed(node.state, member.project.partition, FREED, Freed) if shown else {}
    for head in shown:
        _free(node, member, link, head, freed.get(head.id))


def _forget(node: Node, member: Member, gone: list[Peer]) -> None:
    known = accept.accepted(node, member) if gone else {}
    kept = {peer.id: known[peer.id].record.blob for peer in gone if peer.id in known and known[peer.id].record.blob}
    for id_ in kept:
        # "Lost", not empty: should an older roster come back into force, it is fetched anew.
        accept.mark_lost(node, member, id_)
    blobs.discard(node, member.project, kept.values())


def _shown(member: Member, peer: Peer, cut: Cut) -> Head | None:
    """Its genuine head in the transport, if that announces a blob."""
    entry = cut.heads.get(peer.id)
    try:
        head = None if entry is None else open_head(entry.data, member.fed_id, peer.id, bytes.fromhex(peer.ed))
    except Refused:
        return None
    return head if head is not None and head.chunks else None


def _free(node: Node, member: Member, link: Link, head: Head, before: records.Stored[Freed] | None) -> None:
    """Once per blob. It is housekeeping: if it fails, the next pulse tries again."""
    if before is not None and before.record.blob_id == head.blob_id:
        return
    try:
        link.free_blob(member.fed_id, head.id, head.blob_id, head.chunks)
    except TransportError as error:
        journal.error(node, member.project, f"the room of a member that is gone was not given back: {error}", head.id)
        return
    step("reclaim.freed")
    expect = before.version if before is not None else ABSENT
    node.state.write(records.put(member.project.partition, FREED + head.id, Freed(head.blob_id), expect))
