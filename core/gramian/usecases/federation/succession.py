"""Rosters that follow one another when members come and go: pure functions of what the admin knows."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_bytes

import msgspec

from gramian.domain import crypto
from gramian.domain.protocol import generations, keys, roster
from gramian.domain.protocol.roster import Member as Peer
from gramian.domain.protocol.roster import MemberState
from gramian.usecases.federation.membership import Member


def joined(member: Member, joiner: Peer) -> dict[str, object]:
    """Fields of the roster with a new member."""
    current = member.roster
    ring = generations.ring(member.generation_key(current.gen), bytes.fromhex(joiner.x), member.fed_id)
    return {"members": [*current.members, joiner], "rings": {**current.rings, joiner.id: ring}}


def without(member: Member, peer_id: str, state: MemberState, also: Sequence[Peer] = ()) -> dict[str, object]:
    """Fields of the roster in which one member no longer counts: a new generation of keys, boxed to the others and to
    those who join (`also`)."""
    current = member.roster
    members = [_in_state(listed, state) if listed.id == peer_id else listed for listed in current.members] + [*also]
    key, old = token_bytes(crypto.KEY_BYTES), member.generation_key(current.gen)
    gen = current.gen + 1
    active = [listed for listed in members if listed.state == "active"]
    return {
        "members": members,
        "gen": gen,
        "rings": {listed.id: generations.ring(key, bytes.fromhex(listed.x), member.fed_id) for listed in active},
        "chain": [*current.chain, generations.link(key, old, gen, member.fed_id)],
        "policy": roster.resealed(current.policy, member.fed_id, member.kek(current.gen), keys.kek(key, member.fed_id)),
    }


def _in_state(listed: Peer, state: MemberState) -> Peer:
    """Evicted stays evicted."""
    return listed if listed.state == "evicted" else msgspec.structs.replace(listed, state=state)
