"""Joining a federation with an invitation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from gramian.domain import crypto
from gramian.domain.names import check_id
from gramian.domain.protocol import invitation, keys, redemption, roster
from gramian.errors import ContentMissing, InvalidRequest, Refused, TransportRefused
from gramian.faults import step
from gramian.node import Node
from gramian.ports import Transport
from gramian.usecases import records
from gramian.usecases.federation import logins, membership, outgoing, requests
from gramian.usecases.federation.invite import REASONS
from gramian.usecases.projects import lifecycle


def join(node: Node, cid: str, pid: str | None, values: Mapping[str, object], *, persist: bool) -> str:
    """Redeem the invitation in `values` and become a member under `pid` (default: the federation's name).

    Nothing of the project exists before the admin's answer is verified; a repetition after a lost answer works, since
    the keys are derived. Raises InvalidRequest, AlreadyExists, TransportError.
    """
    named = invitation.with_current_names(values)
    requests.refuse_what_is_missing(named)
    invited = invitation.parse({key: requests.text_of(named, key) for key in named})
    wishes = requests.wishes(node, named)
    pid = check_id("project id", pid or wishes.fed_name)
    if lifecycle.exists(node, cid, pid):
        raise lifecycle.taken(cid, pid)
    transport = node.transport(wishes.transport)
    awaits_login = logins.awaited(transport, wishes.options)
    if not awaits_login:
        _check_line(transport, wishes.options)
    own = keys.PeerKeys.derive(node.vault.master_key, bytes.fromhex(invited.tid), cid, pid)
    try:
        welcome, grant = _redeem(invited, own)
        known, message = _verified(welcome, invited, own)
    except Refused as error:
        raise InvalidRequest(f"the admin's answer is not genuine: {error}") from error
    if "fed_encrypt" in named and wishes.encrypt != known.policy.fed_encrypt:
        decided = "true" if known.policy.fed_encrypt else "false"
        raise InvalidRequest(
            f"the federation's admin decided fed_encrypt={decided}; join with that, or without the key"
        )
    options = logins.completed(transport, wishes.options, grant.transport)
    _require_federation(transport, options, invited.fed_id)
    step("join.redeemed")
    uid = lifecycle.new_uid()
    record = _record(node, uid, own, invited, wishes, welcome, options)
    writes = membership.first_writes(uid, record, message)
    lifecycle.add(node, cid, pid, persist=persist, federated=True, uid=uid, extra=writes)
    return pid


def _check_line(transport: Transport, options: Mapping[str, str]) -> None:
    """Raises TransportError; then nothing of the project exists, and the same invitation can be used again."""
    with closing(transport.open(options)):
        pass


def _require_federation(transport: Transport, options: Mapping[str, str], fed_id: str) -> None:
    """Raises InvalidRequest if the options lead elsewhere: nobody would ever meet there, and nobody would notice."""
    with closing(transport.open(options)) as link:
        try:
            if link.cut(fed_id, []).roster is not None:
                return
        except ContentMissing:
            pass
        except TransportRefused:  # its operator lets members in one by one, once their ids are known
            return
    raise InvalidRequest(
        "the federation is not where these keys lead: leave those of the invitation as they are, and add your own "
        "login; the same invitation can be used again"
    )


def _redeem(invited: invitation.Invitation, own: keys.PeerKeys) -> tuple[redemption.Welcome, redemption.Grant]:
    shared = redemption.Keys.derive(invited.secret, invited.tid, *invited.admin())
    body = redemption.apply(shared, own)
    reply = outgoing.post(invited.rest_url, body, max_reply_bytes=2 * redemption.MAX_REPLY_BYTES, shown=REASONS)
    welcome = redemption.open_welcome(shared, body, outgoing.entity(reply, "fedRedemption"))
    return welcome, redemption.open_grant(welcome.box, own, invited.fed_id)


def _verified(
    welcome: redemption.Welcome, invited: invitation.Invitation, own: keys.PeerKeys
) -> tuple[roster.Roster, bytes]:
    message = crypto.decode(welcome.roster)
    known = roster.open_roster(message, invited.fed_id)
    listed = known.member(own.peer_id)
    if listed is None or listed.state != "active" or listed.tid != invited.tid:
        raise Refused("its roster does not list this node")
    return known, message


def _record(
    node: Node,
    uid: str,
    own: keys.PeerKeys,
    invited: invitation.Invitation,
    wishes: requests.Wishes,
    welcome: redemption.Welcome,
    options: dict[str, str],
) -> records.Federation:
    public, secret = membership.split_options(node.transport(wishes.transport), options)
    return records.Federation(
        invited.fed_id,
        wishes.fed_name,
        own.peer_id,
        invited.tid,
        wishes.local_type,
        public,
        membership.seal_secrets(node, uid, records.Secrets(secret)),
        welcome.checkpoint,
        push=wishes.push,
        transport=wishes.transport,
    )
