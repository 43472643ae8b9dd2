"""Making this node the admin with the federation's recovery key, when the admin's node is lost for good."""

from __future__ import annotations

from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain.protocol import recovery
from gramian.errors import InvalidRequest, Refused, TransportError, TransportRefused
from gramian.node import Node
from gramian.usecases.federation import membership, view
from gramian.usecases.federation.membership import Member


def recover(node: Node, cid: str, pid: str, key: Ed25519PrivateKey) -> Member:
    """Sign this node's succession, store it and tell the others; they follow at their next pulse.

    The key is used here and kept nowhere. Raises InvalidRequest, and TransportError also when this node is the admin
    and the others cannot know: its login may not do what an admin's must.
    """
    member = membership.active(node, cid, pid)
    taken = view.change_roster(node, member, partial(_succeeded, key, int(node.clock())))
    try:
        with view.opened(node, taken) as (latest, _):
            return latest
    except TransportError as error:
        raise TransportRefused(
            f"this node is the admin now, and the others do not know yet: {error}; its first sync that works tells them"
        ) from error


def _succeeded(key: Ed25519PrivateKey, now: int, member: Member) -> dict[str, object]:
    """Fields of the roster with this node as the admin. Versions begin anew: a thief may have used them up."""
    known, own = member.roster, member.own
    if known.recovery_ed is None:
        raise InvalidRequest("the federation was founded without a recovery key (fed_recovery_key)")
    if known.recovery_ed != key.public_key().public_bytes_raw().hex():
        raise InvalidRequest(
            f"this is not the federation's recovery key: that one's public half is {known.recovery_ed}"
        )
    if member.is_admin:
        raise InvalidRequest("this node is the federation's admin already")
    if member.peer_id not in {peer.id for peer in known.active()}:
        raise InvalidRequest("this node is no active member of the federation: recover at one that is")
    try:
        named = {"admin_ed": own.ed.hex(), "admin_x": own.x.hex()}
        taken = recovery.succeed(key, member.fed_id, known.successions, ts=now, **named)
    except Refused as error:
        raise InvalidRequest(str(error)) from error
    return {**named, "v": 1, "founder_ed": known.first_admin_ed, "successions": [*known.successions, taken]}
