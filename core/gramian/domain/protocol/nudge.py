"""A nudge: "I have published" or "publish, please", signed, so that strangers cannot make nodes work."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain.protocol import signed
from gramian.domain.protocol.fields import Count, HexId
from gramian.domain.protocol.roster import Roster
from gramian.errors import Refused

LABEL = "nudge"
MAX_BYTES = 1024
MAX_AGE_S = 300
MIN_INTERVAL_S = 60
"""At most one nudge per peer and minute is heeded ..."""
MIN_NEWS_INTERVAL_S = 1
"""... unless it announces a snapshot that the hearer has not yet."""


class Nudge(msgspec.Struct, frozen=True):
    """`epoch`: the sender's newest published snapshot, 0 before the first. `asks`: the others are to publish theirs."""

    fed_id: HexId
    id: HexId
    ts: Count
    epoch: Count = 0
    asks: bool = False


def pack(nudge: Nudge, key: Ed25519PrivateKey) -> bytes:
    return signed.pack(nudge, key, LABEL)


def open_nudge(message: bytes, roster: Roster, now: float) -> Nudge:
    """Raises Refused unless an active member sent it recently."""
    nudge = signed.parse(message, Nudge, LABEL, max_bytes=MAX_BYTES)
    member = roster.member(nudge.id)
    if nudge.fed_id != roster.fed_id or member is None or member.state != "active":
        raise Refused("the nudge is not from an active member")
    signed.check(message, bytes.fromhex(member.ed), LABEL)
    if abs(now - nudge.ts) > MAX_AGE_S:
        raise Refused("the nudge is old or its sender's clock is wrong")
    return nudge
