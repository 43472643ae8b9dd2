"""Invitations and their redemption: only the invited can apply, only the issuer can answer."""

from __future__ import annotations

import base64

import msgspec
import pytest

from gramian.domain.canonical import canonical_json
from gramian.domain.protocol import invitation, redemption
from gramian.domain.protocol.keys import PeerKeys
from gramian.errors import BadSeal, InvalidRequest, Refused

SECRET, FED_ID = b"i" * 32, "f" * 32
TID = invitation.token_id("FEDTOKEN" + "0" * 32)
KEYS = redemption.Keys.derive(SECRET, TID, "c1", "p1")
JOINER = PeerKeys.derive(b"m" * 32, bytes.fromhex(TID), "c2", "p2")


def invited(**changes: object) -> invitation.Invitation:
    made = invitation.Invitation(
        FED_ID,
        "study",
        "m30",
        invitation.redemption_url("http://charm:8080", "c1", "p1"),
        "FEDTOKEN" + "0" * 32,
        SECRET,
        {"nats_hosts": "nats://localhost:4222"},
    )
    return invitation.Invitation(**{name: getattr(made, name) for name in made.__slots__} | changes)


def test_invitation_map_is_read_back() -> None:
    """All that an admin puts in comes out, and the admin's place with it."""
    assert invitation.parse(invited().to_map()) == invited()
    assert invited().admin() == ("c1", "p1")


def test_invitation_with_the_older_names_is_read() -> None:
    """`group_*` keys are `fed_*` keys of an older release."""
    older = {key.replace("fed_", "group_"): value for key, value in invited().to_map().items()}
    assert invitation.parse(invitation.with_current_names(older)) == invited()


@pytest.mark.parametrize("key", ["fed_name", "sync_sched", "fed_rest_url", "fed_req_token", "fed_secret_key", "fed_id"])
def test_invitation_without_a_key_names_it(key: str) -> None:
    """The user learns what is missing."""
    values = invited().to_map()
    del values[key]
    with pytest.raises(InvalidRequest, match=key):
        invitation.parse(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fed_req_token", "FEDTOKEN38f45fe16545e80c"),
        ("fed_secret_key", base64.b64encode(b"short").decode()),
        ("fed_secret_key", "not base64!"),
        ("fed_id", "../../etc"),
        ("fed_rest_url", "http://charm:8080/elsewhere"),
        ("fed_rest_url", "http://charm:8080/symetry/rest/../fedml/p/createPolicies"),
    ],
)
def test_invitation_with_a_malformed_value_is_refused(key: str, value: str) -> None:
    """Nothing odd reaches keys, paths or stores."""
    with pytest.raises(InvalidRequest):
        invitation.parse({**invited().to_map(), key: value})


@pytest.mark.parametrize("host", ["ftp://charm", "http://", "http://user:pw@charm", "http://charm/?a=b"])
def test_redemption_url_of_an_odd_host_is_refused(host: str) -> None:
    """The admin is told when its base address makes no sense."""
    with pytest.raises(InvalidRequest, match="fed_rest_host"):
        invitation.redemption_url(host, "c1", "p1")


def test_application_opens_for_the_issuer() -> None:
    """The admin learns the joiner's keys, and that it owns them."""
    request = redemption.parse_request(redemption.apply(KEYS, JOINER))
    application = redemption.open_application(request, KEYS)
    assert (application.ed, application.x) == (JOINER.ed.hex(), JOINER.x.hex())


@pytest.mark.parametrize(
    ("cid", "pid", "secret"), [("c9", "p1", SECRET), ("c1", "p9", SECRET), ("c1", "p1", b"x" * 32)]
)
def test_application_for_another_admin_or_of_a_guesser_does_not_open(cid: str, pid: str, secret: bytes) -> None:
    """An application is bound to the invitation's secret and to the admin's project."""
    request = redemption.parse_request(redemption.apply(redemption.Keys.derive(secret, TID, cid, pid), JOINER))
    with pytest.raises(BadSeal):
        redemption.open_application(request, KEYS)


def test_application_with_keys_of_somebody_else_is_refused() -> None:
    """The holder of an invitation cannot enrol a key that it does not own."""
    other = PeerKeys.derive(b"z" * 32, bytes.fromhex(TID), "c3", "p3")
    mixed = PeerKeys(JOINER.signing, other.boxing)
    request = redemption.parse_request(redemption.apply(KEYS, mixed))
    application = redemption.open_application(request, KEYS)
    assert application.ed == JOINER.ed.hex()
    forged = msgspec.structs.replace(application, ed=other.ed.hex())
    sealed = redemption.crypto.seal(KEYS.request, canonical_json(msgspec.to_builtins(forged)), KEYS.aad())
    resealed = msgspec.structs.replace(request, sealed=redemption.crypto.encode(sealed))
    with pytest.raises(Refused, match="signature"):
        redemption.open_application(resealed, KEYS)


@pytest.mark.parametrize("plain", [b"", b"{}", b"\xff", b'{"ed":"\xff"}', b'{"a":' * 5000])
def test_sealed_message_that_opens_but_is_malformed_is_refused(plain: bytes) -> None:
    """Who holds an invitation can seal anything."""
    sealed = redemption.crypto.seal(KEYS.request, plain, KEYS.aad())
    request = redemption.Request(redemption.VERSION, TID, redemption.crypto.encode(sealed))
    with pytest.raises(BadSeal):
        redemption.open_application(request, KEYS)


def test_grant_for_a_key_of_low_order_is_refused() -> None:
    """Whatever such a key shares is known to everybody."""
    with pytest.raises(Refused, match="takes no box"):
        redemption.box_grant(redemption.Grant({"0": "a2V5"}), bytes(32), FED_ID)


def test_welcome_opens_only_for_the_request_that_it_answers() -> None:
    """A recorded answer cannot be given to another request."""
    body, other = redemption.apply(KEYS, JOINER), redemption.apply(KEYS, JOINER)
    welcome = redemption.Welcome("cm9zdGVy", {"a" * 32: 7}, "Ym94")
    reply = redemption.answer(KEYS, body, welcome)
    assert redemption.open_welcome(KEYS, body, reply) == welcome
    with pytest.raises(BadSeal):
        redemption.open_welcome(KEYS, other, reply)


def test_grant_opens_for_the_joiner_only() -> None:
    """The ring is boxed to the keys that applied."""
    grant = redemption.Grant({"nats_sec_user": "peer"})
    text = redemption.box_grant(grant, JOINER.x, FED_ID)
    assert redemption.open_grant(text, JOINER, FED_ID) == grant
    with pytest.raises(BadSeal):
        redemption.open_grant(text, PeerKeys.derive(b"o" * 32, b"t" * 32, "c", "p"), FED_ID)
    with pytest.raises(BadSeal):
        redemption.open_grant(text, JOINER, "0" * 32)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff", b'{"v":2,"tid":"' + b"0" * 64 + b'","sealed":""}', b"x" * 9000]
)
def test_malformed_request_is_refused(body: bytes) -> None:
    """Anyone can send anything to createPolicies."""
    with pytest.raises(Refused):
        redemption.parse_request(body)


def test_peer_keys_are_the_same_again_and_differ_by_place() -> None:
    """A join that is repeated after a lost answer has the same keys; another project never has."""
    assert PeerKeys.derive(b"m" * 32, bytes.fromhex(TID), "c2", "p2").peer_id == JOINER.peer_id
    others = {
        PeerKeys.derive(b"m" * 32, bytes.fromhex(TID), cid, pid).peer_id for cid, pid in (("c2", "p3"), ("c3", "p2"))
    }
    assert JOINER.peer_id not in others
    assert len(others) == 2
