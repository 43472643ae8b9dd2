"""Seals against the contract's samples, round trips, and everything that must not open."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain import sealing
from gramian.domain.sealing import Scheme
from gramian.errors import BadSeal, InvalidRequest

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
KEY = base64.b64decode("t6Zat/ZAJyYBtmVXATUDCQ==")
PLACE = {"method": "POST", "cid": "c1", "path": "/symetry/rest/c1/fedml/create"}
UNIFORM = "the sealed text does not open: the key or password is wrong, or it was altered"


def counting(size: int) -> bytes:
    """Stands in for `secrets.token_bytes`."""
    return bytes(range(size))


@pytest.mark.parametrize("vector", VECTORS["body"], ids=lambda v: v["opened"][:20])
def test_body_v1_contract_vector_seals_and_opens(vector: dict) -> None:
    """AES-CBC with the contract's fixed IV."""
    key = base64.b64decode(vector["secret_key"])
    assert sealing.seal_v1(vector["opened"].encode(), key) == vector["sealed"]
    assert sealing.open_body(vector["sealed"].encode(), key, **PLACE) == (vector["opened"].encode(), Scheme.V1)


def test_invitation_of_founding_document_opens() -> None:
    """The published sample, with its published password."""
    vector = VECTORS["invitation"]
    plaintext, scheme = sealing.open_invitation(vector["sealed"].encode(), vector["password"])
    assert json.loads(plaintext) == vector["opened"]
    assert scheme is Scheme.V1
    assert sealing.seal_invitation_v1(plaintext, vector["password"]) == vector["sealed"]


@pytest.mark.parametrize("vector", VECTORS["invitation_computed"], ids=lambda v: v["password"])
def test_invitation_computed_vector_seals_and_opens(vector: dict) -> None:
    """A short password, and one that fills the key."""
    opened = vector["opened"].encode()
    assert sealing.seal_invitation(opened, vector["password"], Scheme.V1, counting) == vector["sealed"]
    assert sealing.open_invitation(vector["sealed"].encode(), vector["password"]) == (opened, Scheme.V1)


@pytest.mark.parametrize(
    ("password", "key"),
    [
        ("p" * 16, b"p" * 16),
        ("p" * 17, b"p" * 17 + b"0" * 7),
        ("p" * 25, b"p" * 25 + b"0" * 7),
        ("p" * 32, b"p" * 32),
        ("é" * 8, "é".encode() * 8),
    ],
)
def test_invitation_v1_pads_password_bytes_to_next_key_size(password: str, key: bytes) -> None:
    """V04: 16, 24 and 32 bytes of UTF-8."""
    encryptor = Cipher(AES(key), modes.ECB()).encryptor()
    expected = encryptor.update(b"{}" + b"\x0e" * 14) + encryptor.finalize()
    assert sealing.seal_invitation_v1(b"{}", password) == base64.b64encode(expected).decode()


@pytest.mark.parametrize("password", ["p" * 33, "é" * 17, "", "\ud800"])
def test_invitation_v1_impossible_password_is_refused(password: str) -> None:
    """Too long for any key size, empty, or not text."""
    with pytest.raises(InvalidRequest, match="password"):
        sealing.seal_invitation_v1(b"{}", password)


def test_invitation_v1_opens_documented_cbc_form() -> None:
    """K10: the text of the contract describes CBC where its sample has ECB."""
    key = b"passwd".ljust(16, b"0")
    for number in range(600):  # about two of them also unpad as ECB, to garbage
        opened = json.dumps({"n": number, "fed_name": "federation"}).encode()
        assert sealing.open_invitation_v1(sealing.seal_v1(opened, key).encode(), "passwd") == opened


def test_body_v2_has_the_documented_form() -> None:
    """Prefix, base64url without padding, 12 bytes of nonce, 16 of tag."""
    text = sealing.seal_body(b"{}", KEY, Scheme.V2, counting, **PLACE)
    assert text.startswith("gramian.v2.")
    data = base64.urlsafe_b64decode(text.removeprefix("gramian.v2.") + "==")
    assert data[:12] == counting(12)
    assert len(data) == 12 + 2 + 16


@pytest.mark.parametrize("changed", ["method", "cid", "path", "key", "bit"])
def test_body_v2_opened_elsewhere_or_altered_is_bad_seal(changed: str) -> None:
    """A sealed body means something in one place only."""
    text = sealing.seal_body(b"{}", KEY, Scheme.V2, counting, **PLACE)
    place = {**PLACE, **({changed: "other"} if changed in PLACE else {})}
    if changed == "bit":
        text = text[:-1] + ("A" if text[-1] != "A" else "Q")
    key = bytes(16) if changed == "key" else KEY
    with pytest.raises(BadSeal, match=f"^{UNIFORM}$"):
        sealing.open_body(text.encode(), key, **place)


def test_body_v2_path_and_cid_cannot_trade_characters() -> None:
    """The joined parts carry their lengths."""
    text = sealing.seal_body(b"{}", KEY, Scheme.V2, counting, method="POST", cid="c1", path="/x")
    with pytest.raises(BadSeal):
        sealing.open_body(text.encode(), KEY, method="POST", cid="c1/", path="x")


def test_require_v2_refuses_v1_by_name() -> None:
    """The sender learns what to do, whether or not the text would have opened."""
    for text in (sealing.seal_v1(b"{}", KEY), "garbage"):
        with pytest.raises(InvalidRequest, match=r"gramian\.v2"):
            sealing.open_body(text.encode(), KEY, **PLACE, require_v2=True)
    sealed = sealing.seal_body(b"{}", KEY, Scheme.V2, counting, **PLACE)
    assert sealing.open_body(sealed.encode(), KEY, **PLACE, require_v2=True) == (b"{}", Scheme.V2)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"=",
        b"A",
        b"AAAA",
        b"\xff\xfe",
        "é".encode(),
        base64.b64encode(bytes(15)),
        base64.b64encode(bytes(16)),
        base64.b64encode(bytes(17)),
        base64.b64encode(bytes(16)) + b"=",
        base64.b64encode(bytes(16))[:-2] + b"!=",
        base64.b64encode(bytes(16)).rstrip(b"="),
        b"gramian.v2.",
        b"gramian.v2.A",
        b"gramian.v2.AAAA",
        b"gramian.v2." + b"A" * 16,
        b"gramian.v2." + b"A" * 37,
        b"gramian.v2." + base64.b64encode(b"\xff" * 40),
        b"gramian.v2p." + b"A" * 80,
        b"gramian.v3." + b"A" * 80,
        b'{"fed_name":"not sealed"}',
    ],
)
def test_open_malformed_text_gives_the_one_text(text: bytes) -> None:
    """Alphabet, length, padding, tag: the answer is the same for all."""
    with pytest.raises(BadSeal, match=f"^{UNIFORM}$") as caught:
        sealing.open_body(text, KEY, **PLACE)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    with pytest.raises(BadSeal, match=f"^{UNIFORM}$"):
        sealing.open_invitation(text, "passwd")


def test_altered_v1_text_that_happens_to_unpad_gives_the_one_text_too() -> None:
    """Otherwise one random text in 256 would be answered with what is wrong with its JSON."""
    rng = random.Random(1)
    texts = [base64.b64encode(rng.randbytes(48)) for _ in range(2000)]
    unpadded = 0
    for text in texts:
        with contextlib.suppress(BadSeal):
            sealing.open_v1(text, KEY)
            unpadded += 1
        with pytest.raises(BadSeal, match=f"^{UNIFORM}$"):
            sealing.open_body(text, KEY, **PLACE)
    assert unpadded, "none of them tests anything"


@pytest.mark.parametrize("seal", [sealing.seal_v1, None])
def test_open_text_with_line_breaks_opens(seal: Callable | None) -> None:
    """Mail and terminals wrap long lines."""
    opened = b'{"fed_name":"' + b"f" * 200 + b'"}'
    text = seal(opened, KEY) if seal else sealing.seal_body(opened, KEY, Scheme.V2, counting, **PLACE)
    wrapped = "\n ".join(text[at : at + 64] for at in range(0, len(text), 64))
    assert sealing.open_body(f"\r\n{wrapped}\t\n".encode(), KEY, **PLACE)[0] == opened


def test_invitation_v2_round_trip_and_wrong_password() -> None:
    """scrypt and AES-GCM under a password of any length, in any script."""
    password = "correct horse battery staple, längst nicht mehr 32 Bytes"
    text = sealing.seal_invitation(b'{"fed_name":"f"}', password, Scheme.V2, counting)
    assert text.startswith("gramian.v2p.")
    assert sealing.open_invitation(text.encode(), password) == (b'{"fed_name":"f"}', Scheme.V2)
    with pytest.raises(BadSeal, match=f"^{UNIFORM}$"):
        sealing.open_invitation(text.encode(), "passwd")


@given(st.sampled_from([16, 24, 32]), st.sampled_from(list(Scheme)), st.data())
@settings(deadline=None, max_examples=60)
def test_body_round_trip(size: int, scheme: Scheme, data: st.DataObject) -> None:
    """Any text under any legal key in both schemes, and in v2 any bytes."""
    texts = st.text(max_size=50).map(str.encode)
    opened = data.draw(texts if scheme is Scheme.V1 else texts | st.binary(max_size=100))
    key = data.draw(st.binary(min_size=size, max_size=size))
    text = sealing.seal_body(opened, key, scheme, counting, **PLACE)
    assert sealing.open_body(text.encode(), key, **PLACE) == (opened, scheme)


@given(st.binary(max_size=120) | st.text(max_size=60).map(str.encode))
@settings(deadline=None)
def test_open_arbitrary_bytes_opens_or_is_bad_seal(text: bytes) -> None:
    """No input gives another exception."""
    for prefix in (b"", b"gramian.v2."):
        with contextlib.suppress(BadSeal):
            sealing.open_body(prefix + text, KEY, **PLACE)
