"""Generation keys: members read every generation up to theirs, evicted ones none of the later."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain import crypto
from gramian.domain.protocol import generations, keys, roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.errors import BadSeal, Refused

SALT = b"s" * 32
ADMIN = PeerKeys.derive(b"m" * 32, SALT, "c1", "p1")
PEER = PeerKeys.derive(b"n" * 32, b"t" * 32, "c2", "p2")
FED_ID = keys.fed_id(ADMIN.ed, SALT)


def with_generations(secrets: list[bytes], members: list[PeerKeys]) -> roster.Roster:
    return roster.Roster(
        fed_id=FED_ID,
        salt=SALT.hex(),
        v=1,
        prev_sha="",
        ts=0,
        admin_ed=ADMIN.ed.hex(),
        admin_x=ADMIN.x.hex(),
        policy=roster.Policy("m1", True, 1),
        gen=len(secrets) - 1,
        members=[],
        rings={own.peer_id: generations.ring(secrets[-1], own.x, FED_ID) for own in members},
        chain=[generations.link(secrets[i], secrets[i - 1], i, FED_ID) for i in range(1, len(secrets))],
    )


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=5))
def test_member_opens_every_generation(secrets: list[bytes]) -> None:
    """The newest from its box, older ones down the chain."""
    made = with_generations(secrets, [ADMIN, PEER])
    for gen, secret in enumerate(secrets):
        assert generations.open_key(made, PEER.peer_id, PEER.boxing, gen) == secret


def test_member_that_is_in_no_ring_opens_nothing() -> None:
    """After an eviction the roster has no box for the evicted."""
    made = with_generations([b"a" * 32, b"b" * 32], [ADMIN])
    for gen in (0, 1):
        with pytest.raises(Refused, match="no key"):
            generations.open_key(made, PEER.peer_id, PEER.boxing, gen)


def test_box_of_somebody_else_does_not_open() -> None:
    """Boxes are for one key."""
    made = with_generations([b"a" * 32], [ADMIN])
    with pytest.raises(BadSeal):
        generations.open_key(made, ADMIN.peer_id, PEER.boxing, 0)


@pytest.mark.parametrize("gen", [-1, 2, 10**9])
def test_generation_beyond_the_roster_is_refused(gen: int) -> None:
    """Heads name a generation; a wrong one is no crash."""
    made = with_generations([b"a" * 32, b"b" * 32], [ADMIN])
    with pytest.raises(Refused):
        generations.open_key(made, ADMIN.peer_id, ADMIN.boxing, gen)


def test_spliced_chain_does_not_open() -> None:
    """A link is bound to its place."""
    made = with_generations([b"a" * 32, b"b" * 32, b"c" * 32], [ADMIN])
    swapped = msgspec.structs.replace(made, chain=made.chain[::-1])
    with pytest.raises(BadSeal):
        generations.open_key(swapped, ADMIN.peer_id, ADMIN.boxing, 0)
    cut = msgspec.structs.replace(made, chain=made.chain[:1])
    with pytest.raises(Refused):
        generations.open_key(cut, ADMIN.peer_id, ADMIN.boxing, 0)
    assert crypto.decode(made.rings[ADMIN.peer_id])
