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
"""... unless it announces a snapshot that the hearer has not yet ..."""
MAX_UNKEPT = 5
"""... and so many announcements, of which none came true, have not gone before."""


class Nudge(msgspec.Struct, frozen=True):
    """`epoch`: the sender's newest published snapshot, 0 before the first. `asks`: the others are to publish theirs."""

    fed_id: HexId
    id: HexId
    ts: Count
    epoch: Count = 0
    asks: bool = False


class _Heeded(msgspec.Struct):
    """The last nudge of a peer that was heeded. `known`: the peer's epoch that the hearer had then; `unkept`: how many
    announcements were heeded since it was another one."""

    at: float
    known: int
    unkept: int


class Attention:
    """Which nudges of which peers are worth a pulse. Not thread-safe."""

    def __init__(self) -> None:
        self._heeded: dict[tuple[str, str], _Heeded] = {}

    def heeds(self, project: str, sender: str, *, known: int, is_news: bool, now: float) -> bool:
        """Whether a nudge is to be heeded; it then counts. `known`: the newest epoch of its sender that the hearer has
        accepted, `is_news` whether it announces a newer one, `now`: seconds of any clock."""
        last = self._heeded.get((project, sender))
        unkept = last.unkept if last is not None and last.known == known else 0
        pause_s = MIN_NEWS_INTERVAL_S if is_news and unkept < MAX_UNKEPT else MIN_INTERVAL_S
        if last is not None and now - last.at < pause_s:
            return False
        self._heeded[project, sender] = _Heeded(now, known, unkept + is_news)
        return True


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
