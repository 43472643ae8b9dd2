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
