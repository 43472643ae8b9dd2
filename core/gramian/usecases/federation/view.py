"""Looking at the transport: roster and heads at one moment, and the newest roster kept on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import msgspec

from gramian.domain.protocol.roster import Rank
from gramian.errors import ContentMissing, Refused, RevisionConflict, TransportError
from gramian.node import Node
from gramian.ports import Cut, Link
from gramian.usecases.federation import journal, membership
from gramian.usecases.federation.membership import Member

ATTEMPTS = 5


class View(msgspec.Struct, frozen=True):
    """What stands in the transport; `member` knows the newest roster, `revision` is that of the roster there."""

    member: Member
    cut: Cut
    revision: str | None


def look(node: Node, member: Member, link: Link, *, heads: bool = True) -> View:
    """Read a cut in which the roster is the one whose members were asked for (none without `heads`).

    Adopts a newer roster and puts this node's back where the transport lags. Raises TransportError.
    """
    for _ in range(ATTEMPTS):
        peers: Sequence[str] = [peer.id for peer in member.roster.members] if heads else []
        try:
            cut = link.cut(member.fed_id, peers)
        except ContentMissing:
            # The transport forgot the federation: any member makes its place anew.
            member.make_place(link)
            continue
        found = _found(node, member, cut)
        if found is not None and cut.roster is not None and found > member.rank:
            member = membership.adopt(node, member, cut.roster.data)
            continue
        try:
            revision = membership.carry(link, member, found, cut.roster.revision if cut.roster else None)
        except RevisionConflict:
            continue
        return View(member, cut, revision)
    raise TransportError("the federation's roster changes too quickly to be read; try again")


@contextmanager
def opened(node: Node, member: Member) -> Iterator[tuple[Member, Link]]:
    """A link, and the member with the newest roster of both sides: a restored admin must not start from an old one."""
    with closing(membership.connect(node, member)) as link:
        yield look(node, member, link, heads=False).member, link


def announce(node: Node, member: Member, link: Link) -> None:
    """Carry a roster that was just stored to the others; if that fails, any member's next pulse does it."""
    try:
        look(node, member, link, heads=False)
    except TransportError as error:
        journal.error(node, member.project, f"a change of the roster was stored and not yet sent: {error}")


def change_roster(node: Node, member: Member, change: Callable[[Member], dict[str, object] | None]) -> Member:
    """As admin: take the newest roster of both sides, store its successor, tell the others."""
    with opened(node, member) as (latest, link):
        changed = membership.change_roster(node, latest, change)
        announce(node, changed, link)
    return changed


def _found(node: Node, member: Member, cut: Cut) -> Rank | None:
    """The rank of the roster in the transport; None if there is no genuine one."""
    if cut.roster is None:
        return None
    try:
        return membership.rank_of(member, cut.roster.data)
    except Refused as error:
        journal.error(node, member.project, f"a forged roster was found and replaced: {error}")
        return None
