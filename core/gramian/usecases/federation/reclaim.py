"""Giving room back that members who are gone have left taken: here and, as admin, in the transport."""

from __future__ import annotations

import msgspec

from gramian.domain.protocol.head import Head, open_head
from gramian.domain.protocol.roster import Member as Peer
from gramian.errors import Refused, TransportError
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Cut, Link, PeerRoom
from gramian.usecases import records
from gramian.usecases.federation import accept, journal
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import blobs

FREED = "freed/"
AGAIN_S = 3600
"""How often the room of a member who is gone is looked at, whatever its head shows."""


class Freed(msgspec.Struct, frozen=True):
    """The blob that the head of a member who is gone showed when its room was freed last, and when (unix seconds)."""

    blob_id: str
    at: int = 0


def reclaim(node: Node, member: Member, link: Link, cut: Cut) -> None:
    """Forget the snapshots of those who no longer take part; as admin, free the room that they take up.

    Whoever left by itself has freed its own. An evicted one may go on publishing: its room is freed when its head
    shows another blob, and every hour besides, for what it puts may be shown by no head.
    """
    gone = [peer for peer in member.roster.members if peer.state != "active"]
    _forget(node, member, gone)
    freed = records.listed(node.state, member.project.partition, FREED, Freed) if member.is_admin and gone else {}
    for peer in gone if member.is_admin else ():
        _free(node, member, link, peer.id, _shown(member, peer, cut), freed.get(peer.id))


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


def _free(
    node: Node, member: Member, link: Link, id_: str, head: Head | None, before: records.Stored[Freed] | None
) -> None:
    """It is housekeeping: if it fails, the next pulse tries again."""
    shown, now = head.blob_id if head is not None else "", int(node.clock())
    if before is not None and before.record.blob_id == shown and abs(now - before.record.at) < AGAIN_S:
        return
    try:
        if isinstance(link, PeerRoom):
            link.free_peer(member.fed_id, id_)
        elif head is not None:
            link.free_blob(member.fed_id, id_, head.blob_id, head.chunks)
    except TransportError as error:
        journal.error(node, member.project, f"the room of a member that is gone was not given back: {error}", id_)
        return
    step("reclaim.freed")
    expect = before.version if before is not None else ABSENT
    node.state.write(records.put(member.project.partition, FREED + id_, Freed(shown, now), expect))
