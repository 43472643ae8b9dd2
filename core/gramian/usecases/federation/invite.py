"""Inviting a peer, and redeeming its invitation when it joins."""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping
from functools import partial

import msgspec

from gramian.domain import crypto
from gramian.domain.protocol import invitation, redemption, roster
from gramian.domain.protocol.keys import peer_id
from gramian.errors import (
    ConditionFailed,
    InvalidRequest,
    Refused,
    TooLarge,
    TransportError,
    TransportRefused,
    Unavailable,
)
from gramian.faults import step
from gramian.node import Node
from gramian.ports import ABSENT, Put, Write
from gramian.usecases import records
from gramian.usecases.federation import journal, logins, membership, succession, view
from gramian.usecases.federation.membership import Member
from gramian.usecases.federation.requests import text_of
from gramian.usecases.records import INVITATION, PEER

LIMITS = "limits"
REPEAT_AFTER_EXPIRY_S = 24 * 3600
MAX_FAILURES_A_MINUTE = 10
ATTEMPTS = 10
UNKNOWN = "the invitation cannot be redeemed: it is unknown here, or the request is not from its holder"
NO_LOGIN = "the admin has no login for another member; the invitation is still good, try again when it says so"
USED = "the invitation has been used; ask the admin for a new one"
EXPIRED = "the invitation has expired; ask the admin for a new one"
FULL = f"the federation has its {roster.MAX_MEMBERS} members; no more can join"
NO_TRANSPORT = "the admin cannot reach the federation's transport now; the invitation is still good, try again later"
REASONS = (UNKNOWN, USED, EXPIRED, FULL, NO_TRANSPORT, NO_LOGIN)
"""All that a joiner may be told; it shows nothing else of an admin's answer."""


def invite(node: Node, cid: str, pid: str, values: Mapping[str, object], *, default_host: str) -> invitation.Invitation:
    """Make an invitation for one peer. Raises InvalidRequest."""
    member = membership.admin(node, cid, pid)
    hours = _lifetime(text_of(values, "fed_token_lifetime_hours", str(invitation.DEFAULT_LIFETIME_H)))
    made = invitation.Invitation(
        member.fed_id,
        member.record.fed_name,
        member.roster.policy.sync_sched,
        invitation.redemption_url(text_of(values, "fed_rest_host") or default_host, cid, pid),
        invitation.new_token(),
        invitation.new_secret(),
        membership.transport(node, member).shared_options(member.transport_options()),
    )
    key = redemption.master(made.secret, made.tid, cid, pid)
    now = int(node.clock())
    sealed = node.vault.seal(key, _context(member, made.tid))
    record = records.InvitationRecord(made.tid, sealed, now + int(hours * 3600), now, replaces=_lost(member, values))
    expiry = record.expires_at + REPEAT_AFTER_EXPIRY_S
    node.state.write(records.put(member.project.partition, INVITATION + made.tid, record, ABSENT, expiry))
    return made


def redeem(node: Node, cid: str, pid: str, body: bytes, address: str) -> bytes:
    """Take in the holder of an invitation; `address` is where the request comes from, for the rate limit.

    Whatever is wrong before the seal opens gets one and the same text. Raises InvalidRequest.
    """
    if len(body) > redemption.MAX_REQUEST_BYTES:
        raise TooLarge(f"a redemption has at most {redemption.MAX_REQUEST_BYTES} bytes")
    _check_rate(node, address)
    try:
        request = redemption.parse_request(body)
        member, key = _secret_of(node, cid, pid, request.tid)
        keys = redemption.Keys.expand(key, request.tid, cid, pid)
        application = redemption.open_application(request, keys)
        if member is None:
            raise Refused(UNKNOWN)
    except Refused as error:
        _count_failure(node, address)
        raise InvalidRequest(UNKNOWN) from error
    try:
        with view.opened(node, member) as (latest, link):
            member = _admit(node, latest, request.tid, application)
            step("redemption.commit")
            view.announce(node, member, link)
    except TransportError as error:
        raise Unavailable(NO_TRANSPORT) from error
    return redemption.answer(keys, body, _welcome(node, member, application))


def _lost(member: Member, values: Mapping[str, object]) -> str:
    """The lost member whose place the invited one takes, if any."""
    lost = text_of(values, "fed_replaces")
    if lost and (member.roster.member(lost) is None or lost == member.peer_id):
        raise InvalidRequest(f"fed_replaces: the federation has no other member '{lost[:64]}'")
    return lost


def _lifetime(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = 0.0
    if not 0 < hours <= invitation.MAX_LIFETIME_H:
        raise InvalidRequest(
            f"fed_token_lifetime_hours must be above 0 and at most {invitation.MAX_LIFETIME_H}, not '{text[:40]}'"
        )
    return hours


def _secret_of(node: Node, cid: str, pid: str, tid: str) -> tuple[Member | None, bytes]:
    """The admin's membership and the invitation's key; a random key for what is unknown, so that it takes as long."""
    try:
        member = membership.admin(node, cid, pid)
    except InvalidRequest:
        return None, random.token_bytes(crypto.KEY_BYTES)
    stored = _invitation(node, member, tid)
    if stored is None:
        return None, random.token_bytes(crypto.KEY_BYTES)
    return member, node.vault.open(stored.record.key, _context(member, tid))


def _admit(node: Node, member: Member, tid: str, application: redemption.Application) -> Member:
    """Mark the invitation used and the joiner a member, in one group of writes; again for the same keys: as before."""
    joiner = peer_id(bytes.fromhex(application.ed), bytes.fromhex(application.x))
    for _ in range(ATTEMPTS):
        stored = _invitation(node, member, tid)
        if stored is None:
            raise InvalidRequest(UNKNOWN)
        known = member.roster.member(joiner)
        now = int(node.clock())
        if known is not None and known.tid == tid:
            if known.state == "active" and now <= stored.record.expires_at + REPEAT_AFTER_EXPIRY_S:
                return member
            raise InvalidRequest(USED)
        # The roster decides too: a store restored from an old backup may think that the token is fresh.
        if stored.record.used_by or any(other.tid == tid for other in member.roster.members):
            raise InvalidRequest(USED)
        if now > stored.record.expires_at:
            raise InvalidRequest(EXPIRED)
        used = msgspec.structs.replace(stored.record, used_by=application.ed, used_at=now)
        expiry = used.expires_at + REPEAT_AFTER_EXPIRY_S
        marked = records.put(member.project.partition, INVITATION + tid, used, stored.version, expiry)
        writes = [marked, *_login(node, member, tid, joiner)]
        try:
            return membership.change_roster(node, member, partial(_with, stored.record, application), writes)
        except ConditionFailed:
            member = membership.of(node, member.project)
    raise InvalidRequest(USED)


def _login(node: Node, member: Member, tid: str, joiner: str) -> list[Write]:
    """What notes the login of its own that the joiner is given. Raises InvalidRequest if none is left."""
    try:
        return logins.grant(node, member, tid, joiner)
    except TransportRefused as error:
        journal.error(node, member.project, str(error))
        raise InvalidRequest(NO_LOGIN) from error


def _with(
    invitation: records.InvitationRecord, application: redemption.Application, member: Member
) -> dict[str, object]:
    """Fields of the roster with a new member, in place of a lost one if the invitation says so: whoever has the lost
    disk then reads nothing new."""
    if len(member.roster.members) >= roster.MAX_MEMBERS:
        raise InvalidRequest(FULL)
    id_ = peer_id(bytes.fromhex(application.ed), bytes.fromhex(application.x))
    joiner = roster.Member(id_, invitation.tid, application.ed, application.x)
    if invitation.replaces:
        return succession.without(member, invitation.replaces, "left", [joiner])
    return succession.joined(member, joiner)


def _welcome(node: Node, member: Member, application: redemption.Application) -> redemption.Welcome:
    accepted = records.listed(node.state, member.project.partition, PEER, records.Accepted)
    listed = member.roster.member(peer_id(bytes.fromhex(application.ed), bytes.fromhex(application.x)))
    grant = redemption.Grant(logins.granted(node, member, listed.tid if listed else ""))
    return redemption.Welcome(
        crypto.encode(member.message),
        {id_: stored.record.epoch for id_, stored in accepted.items()},
        redemption.box_grant(grant, bytes.fromhex(application.x), member.fed_id),
    )


def _invitation(node: Node, member: Member, tid: str) -> records.Stored[records.InvitationRecord] | None:
    return records.load(node.state, member.project.partition, INVITATION + tid, records.InvitationRecord)


def _context(member: Member, tid: str) -> str:
    return f"invitation {member.project.uid} {tid}"


class _Failures(msgspec.Struct, frozen=True):
    count: int = 0


def _failures_key(node: Node, address: str) -> str:
    return f"redeem/{int(node.clock() // 60)}/{address}"


def _check_rate(node: Node, address: str) -> None:
    stored = records.load(node.state, LIMITS, _failures_key(node, address), _Failures)
    if stored is not None and stored.record.count >= MAX_FAILURES_A_MINUTE:
        raise InvalidRequest("too many failed redemptions from this address; wait a minute")


def _count_failure(node: Node, address: str) -> None:
    """Best effort under contention: a lost count lets one more guess of 128 bits through."""
    key = _failures_key(node, address)
    stored = records.load_or(node.state, LIMITS, key, _Failures())
    counted = records.encode(_Failures(stored.record.count + 1))
    try:
        node.state.write(Put(LIMITS, key, counted, stored.version, int(node.clock()) + 120))
    except ConditionFailed:
        return
