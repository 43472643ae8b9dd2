"""Rosters: signed by the founder, bound to the federation's id, tamper-evident in every byte."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain import crypto
from gramian.domain.protocol import keys, roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.domain.statistics.schema import Schema
from gramian.errors import BadSeal, Refused

SALT = b"s" * 32
ADMIN = PeerKeys.derive(b"m" * 32, SALT, "c1", "p1")
FED_ID = keys.fed_id(ADMIN.ed, SALT)
KEK = keys.kek(b"g" * 32, FED_ID)


def member(own: PeerKeys, tid: str = "") -> roster.Member:
    return roster.Member(own.peer_id, tid, own.ed.hex(), own.x.hex())


def first(**changes: object) -> roster.Roster:
    made = roster.Roster(
        fed_id=FED_ID,
        salt=SALT.hex(),
        v=1,
        prev_sha="",
        ts=1_700_000_000,
        admin_ed=ADMIN.ed.hex(),
        admin_x=ADMIN.x.hex(),
        policy=roster.Policy("m30", False, 2**30),
        gen=0,
        members=[member(ADMIN)],
        rings={},
    )
    return msgspec.structs.replace(made, **changes)


def test_roster_signed_by_the_founder_opens() -> None:
    """What is packed comes back equal."""
    assert roster.open_roster(roster.pack(first(), ADMIN.signing), FED_ID) == first()


@given(st.data())
def test_roster_with_any_bit_flipped_is_refused(data: st.DataObject) -> None:
    """No byte of the message can be altered unnoticed."""
    message = bytearray(roster.pack(first(), ADMIN.signing))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Refused):
        roster.open_roster(bytes(message), FED_ID)


def test_roster_of_another_founder_is_refused_even_with_the_right_fed_id() -> None:
    """The id commits to the founder's key: claiming it is not enough."""
    stranger = PeerKeys.derive(b"x" * 32, SALT, "c1", "p1")
    forged = first(admin_ed=stranger.ed.hex(), admin_x=stranger.x.hex())
    with pytest.raises(Refused, match="another federation"):
        roster.open_roster(roster.pack(forged, stranger.signing), FED_ID)


def test_roster_signed_by_a_member_is_refused() -> None:
    """Only the founder speaks for the federation."""
    peer = PeerKeys.derive(b"y" * 32, b"t" * 32, "c2", "p2")
    forged = first(members=[member(ADMIN), member(peer, "0" * 64)])
    with pytest.raises(Refused, match="signature"):
        roster.open_roster(roster.pack(forged, peer.signing), FED_ID)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([member(ADMIN), member(ADMIN)], "twice"),
        ([roster.Member("0" * 32, "", ADMIN.ed.hex(), ADMIN.x.hex())], "does not match its keys"),
    ],
)
def test_roster_with_inconsistent_members_is_refused(members: list[roster.Member], reason: str) -> None:
    """Even the founder cannot list nonsense."""
    with pytest.raises(Refused, match=reason):
        roster.open_roster(roster.pack(first(members=members), ADMIN.signing), FED_ID)


@pytest.mark.parametrize("text", ["", "never", "m0", "d367", "m30\n", "\u0663h"])
def test_roster_with_a_schedule_that_is_none_is_refused(text: str) -> None:
    """No scheduler would take it, and members set it again whenever their server starts."""
    with pytest.raises(Refused, match="schedule"):
        roster.open_roster(roster.pack(first(policy=roster.Policy(text, False, 2**30)), ADMIN.signing), FED_ID)


@pytest.mark.parametrize("message", [b"", b"\0" * 64, b"\0" * 65, b"\0" * 64 + b"{}", b"\xff" * 200, b"[" * 100_000])
def test_garbage_is_refused_and_never_crashes(message: bytes) -> None:
    """Strangers can write anything to the subject."""
    with pytest.raises(Refused):
        roster.open_roster(message, FED_ID)


def test_successor_chains_to_the_signed_form_of_its_predecessor() -> None:
    """Versions form a chain of hashes."""
    message = roster.pack(first(), ADMIN.signing)
    following = roster.successor(first(), message, ts=1_700_000_100, gen=1)
    assert (following.v, following.prev_sha, following.gen) == (2, crypto.sha256(message), 1)


@pytest.mark.parametrize("encrypt", [False, True])
def test_pinned_schema_opens_for_members(encrypt: bool) -> None:
    """A pinned schema comes back; with encryption its names are nowhere in the roster."""
    schema = Schema.of([("blood pressure", "C"), ("smoker", "B")])
    policy = roster.Policy("m30", encrypt, 2**30)
    text = roster.seal_schema(schema, policy, FED_ID, KEK)
    assert ("smoker" in text) is not encrypt
    pinned = msgspec.structs.replace(policy, schema=text)
    assert roster.open_schema(pinned, FED_ID, KEK) == schema
    if encrypt:
        with pytest.raises(BadSeal):
            roster.open_schema(pinned, FED_ID, b"k" * 32)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"names":' * 5000, '{"names":["\\ud800"],"types":"C","groups":[0]}'])
def test_pinned_schema_that_is_malformed_is_refused(text: str) -> None:
    """The admin's word is checked like everybody's; no text of it ends a pulse."""
    policy = roster.Policy("m30", False, 2**30, schema=text)
    with pytest.raises(Refused):
        roster.open_schema(policy, FED_ID, KEK)


@pytest.mark.parametrize("tid", ["\n", "0" * 64 + "\n", "0" * 63])
def test_roster_with_a_malformed_id_is_refused(tid: str) -> None:
    """Ids are hex digits to the last character: a line feed at the end counts."""
    odd = first(members=[member(ADMIN, tid)])
    with pytest.raises(Refused, match="malformed"):
        roster.open_roster(roster.pack(odd, ADMIN.signing), FED_ID)
