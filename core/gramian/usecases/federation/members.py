"""Leaving and being made to leave."""

from __future__ import annotations

import logging
from contextlib import closing, suppress

from gramian.domain.protocol.head import open_head
from gramian.domain.protocol.roster import Member as Peer
from gramian.errors import ConditionFailed, GramianError, InvalidRequest, Refused, RevisionConflict, Unavailable
from gramian.node import Node
from gramian.usecases.federation import control, lease, logins, membership, view
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.succession import without
from gramian.usecases.projects.lifecycle import Project

log = logging.getLogger(__name__)
ATTEMPTS = 4
GOODBYE_WAIT_S = 5.0
"""How long a deletion waits for a pulse that is under way."""


def evict(node: Node, cid: str, pid: str, peer_id: str) -> str:
    """As admin: its snapshot no longer counts, and it can read nothing that is published from now on.

    Returns what is left to do so that it cannot disturb the transport either. May be repeated.
    Raises InvalidRequest, TransportError.
    """
    member = membership.admin(node, cid, pid)
    if peer_id == member.peer_id:
        raise InvalidRequest("the admin cannot evict itself; delete the project to end its part in the federation")

    def change(latest: Member) -> dict[str, object] | None:
        listed = latest.roster.member(peer_id)
        if listed is None:
            raise InvalidRequest(f"the federation has no member '{peer_id[:64]}'")
        return None if listed.state != "active" else without(latest, peer_id, "evicted")

    changed = view.change_roster(node, member, change)
    evicted = changed.roster.member(peer_id)
    return logins.lock_out(node, changed, evicted.tid if evicted else "")


def leave(node: Node, cid: str, pid: str) -> None:
    """Take this node's snapshot out of the federation and stop pulsing; own rows and models stay.

    May be repeated if the transport could not be reached. Raises InvalidRequest, TransportError, Unavailable.
    """
    member = membership.load(node, cid, pid)
    if member.is_admin:
        raise InvalidRequest(
            "the admin cannot leave: nobody could invite or evict any more; delete the project instead"
        )
    control.stop_pulse(node, cid, pid)
    _say_goodbye(node, member.project, wait_s=lease.WAIT_S)


def leave_for_good(node: Node, project: Project) -> None:
    """Before a deletion: say goodbye if that is possible now. The deletion does not depend on it."""
    try:
        control.stop_pulse(node, project.cid, project.pid)
        _say_goodbye(node, project, wait_s=GOODBYE_WAIT_S)
    except GramianError as error:
        log.info("project %s is deleted without a goodbye to its federation: %s", project.pid, error)


def _say_goodbye(node: Node, project: Project, *, wait_s: float) -> None:
    """Publish that this node shares nothing any more; no pulse runs meanwhile, and none starts afterwards.

    Who is alone in the federation takes its place in the transport away: room is reserved there.
    """
    from gramian.usecases.federation import publish

    with (
        lease.held(node, project, wait_s=wait_s),
        closing(membership.connect(node, membership.of(node, project))) as link,
    ):
        for _ in range(ATTEMPTS):
            seen = view.look(node, membership.of(node, project), link)
            own = seen.member.peer_id
            try:
                if own in [peer.id for peer in seen.member.roster.active()]:
                    publish.withdraw(node, seen.member, link, seen.cut.heads.get(own))
            except (ConditionFailed, RevisionConflict):
                continue
            if seen.member.is_admin and not _others(seen):
                link.destroy(seen.member.fed_id)
            return
    raise Unavailable("this node's membership is being changed by somebody else; try again later")


def _others(seen: view.View) -> list[str]:
    """Active members that have not left, besides this node."""
    fed_id = seen.member.fed_id

    def has_left(peer: Peer) -> bool:
        entry = seen.cut.heads.get(peer.id)
        with suppress(Refused):
            return entry is not None and open_head(entry.data, fed_id, peer.id, bytes.fromhex(peer.ed)).state == "left"
        return False

    return [peer.id for peer in seen.member.roster.active() if peer.id != seen.member.peer_id and not has_left(peer)]
