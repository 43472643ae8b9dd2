"""Logins of the transport that an admin gives to members one by one, so that eviction can cut the line."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gramian.domain import typed
from gramian.domain.canonical import canonical_json
from gramian.errors import InvalidRequest
from gramian.node import Node
from gramian.ports import ABSENT, MemberLogins, Transport, Write
from gramian.usecases import records
from gramian.usecases.federation import membership
from gramian.usecases.federation.membership import Member

GRANT, GRANTS = "grant/", "grants"
_NO_ADVICE = "the evicted member is not heard any more; if it shares its login with others, change that"


class Grant(msgspec.Struct, frozen=True):
    """At the admin: the options that a member was given, sealed. Kept as long as the project: a login is given once."""

    options: str


class Grants(msgspec.Struct, frozen=True):
    """How many were given; it changes with every grant, so that two at once cannot give the same."""

    count: int = 0


def grant(node: Node, member: Member, tid: str, peer_id: str) -> list[Write]:
    """What gives the holder of the token `tid` its login, to be written together with its admission.

    Raises TransportRefused if there is none left.
    """
    transport = membership.transport(node, member)
    if not isinstance(transport, MemberLogins):
        return []
    place = member.project.partition
    count = records.load_or(node.state, place, GRANTS, Grants())
    given = [_opened(node, member, tid_, each.record) for tid_, each in _all(node, member).items()]
    options = dict(transport.member_options(member.transport_options(), member.fed_id, peer_id, given))
    if not options:
        return []
    sealed = node.vault.seal(canonical_json(options), _context(member, tid))
    return [
        records.put(place, GRANT + tid, Grant(sealed), ABSENT),
        records.put(place, GRANTS, Grants(count.record.count + 1), count.version),
    ]


def granted(node: Node, member: Member, tid: str) -> dict[str, str]:
    """What the member that joined with this token was given; empty if nothing was."""
    stored = records.load(node.state, member.project.partition, GRANT + tid, Grant)
    return {} if stored is None else _opened(node, member, tid, stored.record)


def awaited(transport: Transport, options: Mapping[str, str]) -> bool:
    return isinstance(transport, MemberLogins) and transport.awaits_login(options)


def completed(transport: Transport, options: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """A joiner's options with what it was given. Raises InvalidRequest if they do not fit together, or if nothing was
    to come: an admin's answer must not lead a login elsewhere that the joiner has brought itself."""
    if not given:
        return dict(options)
    if not awaited(transport, options):
        raise InvalidRequest(
            "the admin's answer brings options of the transport that its invitation did not announce: ask for a new "
            "invitation"
        )
    return dict(transport.check_options({**options, **given}))


def lock_out(node: Node, member: Member, tid: str) -> str:
    """What the admin still has to do about the login of an evicted member."""
    transport = membership.transport(node, member)
    if not isinstance(transport, MemberLogins):
        return _NO_ADVICE
    return transport.lock_out(member.transport_options(), granted(node, member, tid))


def _all(node: Node, member: Member) -> dict[str, records.Stored[Grant]]:
    return records.listed(node.state, member.project.partition, GRANT, Grant)


def _opened(node: Node, member: Member, tid: str, record: Grant) -> dict[str, str]:
    return typed.decode(node.vault.open(record.options, _context(member, tid)), dict[str, str])


def _context(member: Member, tid: str) -> str:
    return f"grant {member.project.uid} {tid}"
