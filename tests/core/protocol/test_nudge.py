"""Nudges: only recent ones of active members are heeded."""

from __future__ import annotations

import msgspec
import pytest

from gramian.domain.protocol import keys, nudge, roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.errors import Refused

NOW = 1_700_000_000.0
SALT = b"s" * 32
ADMIN = PeerKeys.derive(b"m" * 32, SALT, "c1", "p1")
FED_ID = keys.fed_id(ADMIN.ed, SALT)
ROSTER = roster.Roster(
    fed_id=FED_ID,
    salt=SALT.hex(),
    v=1,
    prev_sha="",
    ts=0,
    admin_ed=ADMIN.ed.hex(),
    admin_x=ADMIN.x.hex(),
    policy=roster.Policy("m1", False, 1),
    gen=0,
    members=[roster.Member(ADMIN.peer_id, "", ADMIN.ed.hex(), ADMIN.x.hex())],
    rings={},
)

NUDGE = nudge.Nudge(FED_ID, ADMIN.peer_id, int(NOW), 7, asks=True)


def test_nudge_of_an_active_member_opens() -> None:
    """The sender is known from the signature."""
    message = nudge.pack(NUDGE, ADMIN.signing)
    assert nudge.open_nudge(message, ROSTER, NOW + 10) == NUDGE


@pytest.mark.parametrize("late_s", [-301, 301, 10**9])
def test_nudge_of_another_time_is_refused(late_s: int) -> None:
    """A recorded nudge is no use later."""
    message = nudge.pack(NUDGE, ADMIN.signing)
    with pytest.raises(Refused, match="old"):
        nudge.open_nudge(message, ROSTER, NOW + late_s)


def test_nudge_of_strangers_and_evicted_members_is_refused() -> None:
    """Who is not an active member makes nobody work."""
    stranger = PeerKeys.derive(b"x" * 32, SALT, "c1", "p1")
    message = nudge.pack(NUDGE, stranger.signing)
    with pytest.raises(Refused, match="signature"):
        nudge.open_nudge(message, ROSTER, NOW)
    evicted = [msgspec.structs.replace(ROSTER.members[0], state="evicted")]
    gone = msgspec.structs.replace(ROSTER, members=evicted)
    with pytest.raises(Refused, match="active"):
        nudge.open_nudge(nudge.pack(NUDGE, ADMIN.signing), gone, NOW)


def test_peer_that_announces_what_never_comes_is_soon_heard_once_a_minute_only() -> None:
    """Each nudge costs a pulse: a lying member may not keep the others at work. Another peer is heard as before."""
    attention = nudge.Attention()
    heeded = [now for now in range(240) if attention.heeds("p", "liar", known=7, is_news=True, now=now)]
    assert heeded == [0, 1, 2, 3, 4, 64, 124, 184]
    assert attention.heeds("p", "honest", known=7, is_news=True, now=240)


def test_peer_that_keeps_its_word_is_heard_every_second() -> None:
    """Also after it was slow to: what counts is that the node has accepted something newer since."""
    attention = nudge.Attention()
    assert all(attention.heeds("p", "busy", known=now // 3, is_news=True, now=now) for now in range(60))
    assert sum(attention.heeds("p", "busy", known=20, is_news=True, now=now) for now in range(60, 70)) == 5
    assert attention.heeds("p", "busy", known=21, is_news=True, now=70)


def test_peer_that_only_asks_is_heard_once_a_minute() -> None:
    """Nobody gains from being asked more often."""
    attention = nudge.Attention()
    assert [now for now in range(121) if attention.heeds("p", "a", known=1, is_news=False, now=now)] == [0, 60, 120]
