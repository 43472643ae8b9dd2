"""Whether others may explore a member's own summary: its head says so, and the admin repeats it in the roster."""

from __future__ import annotations

import msgspec

from gramian.faults import step
from gramian.node import Node
from gramian.ports import Link
from gramian.usecases import records
from gramian.usecases.federation import membership, view
from gramian.usecases.federation.membership import Member
from gramian.usecases.records import FEDERATION, PEER


def allow(node: Node, cid: str, pid: str, *, allowed: bool) -> None:
    """Settle it for this node. Others learn it from its head at its next sync, or from the roster if it is the admin.

    Raises InvalidRequest, TransportError.
    """
    member = membership.active(node, cid, pid)
    records.revise(
        node.state,
        member.project.partition,
        FEDERATION,
        records.Federation,
        lambda record: msgspec.structs.replace(record, explore=allowed),
    )
    step("explore.commit")
    if member.is_admin:
        with view.opened(node, membership.of(node, member.project)) as (latest, link):
            settle(node, latest, link)
    elif member.record.pulsing:
        node.scheduler.soon(cid, pid)


def settle(node: Node, member: Member, link: Link) -> Member:
    """As admin: have the roster say what the members' accepted heads say. A replayed head is accepted by nobody."""

    def said(latest: Member) -> dict[str, object] | None:
        words = {id_: stored.record.explore for id_, stored in accepted.items()}
        words[latest.peer_id] = latest.record.explore
        members = [
            msgspec.structs.replace(peer, explore=words.get(peer.id, peer.explore)) for peer in latest.roster.members
        ]
        return None if members == latest.roster.members else {"members": members}

    accepted = records.listed(node.state, member.project.partition, PEER, records.Accepted)
    changed = membership.change_roster(node, member, said)
    if changed.version != member.version:
        view.announce(node, changed, link)
    return changed


def is_allowed(node: Node, member: Member, peer_id: str) -> bool:
    """Whether this node may answer from the summary of `peer_id`: the roster or that peer's own word can forbid it."""
    listed = member.roster.member(peer_id)
    stored = records.load(node.state, member.project.partition, PEER + peer_id, records.Accepted)
    own_word = stored is None or stored.record.explore
    return listed is not None and listed.state == "active" and listed.explore and own_word
