"""Recovery: only the key that the federation was founded with makes another admin, and everybody agrees on which."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain.protocol import keys, recovery, roster
from gramian.domain.protocol.keys import PeerKeys
from gramian.domain.protocol.roster import Roster
from gramian.errors import Refused

KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
NONCE = b"n" * 32


def ed(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


SALT = recovery.salt(NONCE, ed(KEY))
FOUNDER, ANNA, BERT = (PeerKeys.derive(bytes([number]) * 32, SALT, "c", "p") for number in range(3))
FED_ID = keys.fed_id(FOUNDER.ed, SALT)


def founded(**changes: object) -> Roster:
    made = Roster(
        fed_id=FED_ID,
        salt=SALT.hex(),
        v=7,
        prev_sha="",
        ts=1_700_000_000,
        admin_ed=FOUNDER.ed.hex(),
        admin_x=FOUNDER.x.hex(),
        policy=roster.Policy("m30", False, 2**30),
        gen=0,
        members=[roster.Member(own.peer_id, "", own.ed.hex(), own.x.hex()) for own in (FOUNDER, ANNA, BERT)],
        rings={},
        recovery_ed=ed(KEY).hex(),
        recovery_nonce=NONCE.hex(),
    )
    return msgspec.structs.replace(made, **changes)


def succeeded(
    before: Roster, admin: PeerKeys, *, key: Ed25519PrivateKey = KEY, ts: int = 5, **changes: object
) -> Roster:
    step = recovery.succeed(key, FED_ID, before.successions, admin_ed=admin.ed.hex(), admin_x=admin.x.hex(), ts=ts)
    named = {"admin_ed": admin.ed.hex(), "admin_x": admin.x.hex(), "founder_ed": before.first_admin_ed}
    fields = {"v": before.v + 1, "successions": [*before.successions, step], **named, **changes}
    return msgspec.structs.replace(before, **fields)


def opened(made: Roster, admin: PeerKeys) -> Roster:
    return roster.open_roster(roster.pack(made, admin.signing), FED_ID)


def test_rosters_of_successive_admins_prove_themselves_from_the_federations_id() -> None:
    """Nothing else needs to be known: not the founder, not the key, not the rosters in between."""
    first = founded()
    second = succeeded(first, ANNA)
    third = succeeded(second, BERT)
    back = succeeded(third, FOUNDER)
    for made, admin in ((first, FOUNDER), (second, ANNA), (third, BERT), (back, FOUNDER)):
        assert opened(made, admin) == made


FORGED = {
    "signed by another key": lambda: (succeeded(founded(), ANNA, key=STRANGER), ANNA),
    "another recovery key": lambda: (
        succeeded(founded(recovery_ed=ed(STRANGER).hex()), ANNA, key=STRANGER),
        ANNA,
    ),
    "another nonce": lambda: (founded(recovery_nonce="0" * 64), FOUNDER),
    "no nonce": lambda: (founded(recovery_nonce=None), FOUNDER),
    "no recovery key": lambda: (succeeded(founded(), ANNA, recovery_ed=None), ANNA),
    "an admin by its own word": lambda: (founded(admin_ed=ANNA.ed.hex(), founder_ed=FOUNDER.ed.hex()), ANNA),
    "an admin whom another succession names": lambda: (
        succeeded(founded(), ANNA, admin_ed=BERT.ed.hex(), admin_x=BERT.x.hex()),
        BERT,
    ),
    "other keys for boxes": lambda: (succeeded(founded(), ANNA, admin_x=BERT.x.hex()), ANNA),
    "the founder under a succession": lambda: (succeeded(founded(), ANNA), FOUNDER),
    "the founder in the successor's place": lambda: (
        succeeded(founded(), ANNA, admin_ed=FOUNDER.ed.hex(), admin_x=FOUNDER.x.hex()),
        FOUNDER,
    ),
    "the first succession alone missing": lambda: (
        succeeded(
            succeeded(founded(), ANNA), BERT, successions=succeeded(succeeded(founded(), ANNA), BERT).successions[1:]
        ),
        BERT,
    ),
    "a succession twice": lambda: (
        succeeded(founded(), ANNA, successions=succeeded(founded(), ANNA).successions * 2),
        ANNA,
    ),
    "another founder": lambda: (founded(founder_ed=ANNA.ed.hex()), FOUNDER),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_succession_is_refused(case: str) -> None:
    """Whoever signs the roster: without the recovery key's word it is nobody's."""
    made, admin = FORGED[case]()
    with pytest.raises(Refused):
        opened(made, admin)


def test_succession_of_another_federation_is_refused() -> None:
    """Although the same recovery key serves both."""
    other = keys.fed_id(ANNA.ed, SALT)
    step = recovery.succeed(KEY, other, [], admin_ed=BERT.ed.hex(), admin_x=BERT.x.hex(), ts=5)
    made = succeeded(founded(), BERT)
    with pytest.raises(Refused):
        opened(msgspec.structs.replace(made, successions=[step]), BERT)


def test_founder_that_comes_back_outranks_no_successor() -> None:
    """Whatever version it signs."""
    late = founded(v=2**50)
    taken = succeeded(founded(), ANNA)
    assert roster.rank(taken, roster.pack(taken, ANNA.signing)) > roster.rank(late, roster.pack(late, FOUNDER.signing))


def test_everybody_ends_with_the_same_roster_in_whatever_order_they_arrive() -> None:
    """Two successions out of each other's sight, versions on both sides, and two rosters of one version."""
    anna, bert = succeeded(founded(), ANNA, ts=5), succeeded(founded(), BERT, ts=6)
    made = [
        (founded(), FOUNDER),
        (anna, ANNA),
        (msgspec.structs.replace(anna, v=99), ANNA),
        (bert, BERT),
        (msgspec.structs.replace(bert, ts=77), BERT),
    ]
    messages = [(each, roster.pack(each, admin.signing)) for each, admin in made]
    ends = {max(order, key=lambda pair: roster.rank(*pair))[1] for order in permutations(messages)}
    assert len(ends) == 1
    assert opened(bert, BERT).admin_ed == roster.open_roster(ends.pop(), FED_ID).admin_ed


def test_one_more_succession_settles_two_that_disagree() -> None:
    """It outranks both, on whichever of them it is built."""
    anna, bert = succeeded(founded(), ANNA, ts=5), succeeded(founded(), BERT, ts=6)
    last = succeeded(anna, FOUNDER, ts=1)
    assert opened(last, FOUNDER) == last
    for each, admin in ((anna, ANNA), (bert, BERT)):
        assert roster.rank(last, roster.pack(last, FOUNDER.signing)) > roster.rank(
            each, roster.pack(each, admin.signing)
        )


def test_successions_end_somewhere() -> None:
    """The roster stays small."""
    made = founded()
    for _ in range(recovery.MAX_SUCCESSIONS):
        made = succeeded(made, ANNA)
    assert opened(made, ANNA) == made
    with pytest.raises(Refused, match="at most 64"):
        succeeded(made, BERT)
