"""Signatures against the contract's vectors, and everything around them that decides on access."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain import signing
from gramian.domain.canonical import join
from gramian.domain.signing import Signable, Target
from gramian.errors import InvalidRequest

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())["signature"]
SECRET = "t6Zat/ZAJyYBtmVXATUDCQ=="
LEARN_BODY = (
    b'{"attributeNames":["sepal_length","sepal_width","petal_length"],'
    b'"data":[["4.3","3","1.1"]],"attributeTypes":["C","C","C"]}'
)


def of_vector(vector: dict) -> tuple[Signable, Target]:
    body = (vector["body"] or "").encode()
    request = Signable.of(vector["method"], vector["sym_date"], vector["customer_id"], body)
    return request, Target(vector["resource"], vector["query"] or "")


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['method']} {v['resource']} {v['query']}")
def test_sign_contract_vector_gives_its_authorization(vector: dict) -> None:
    """Every combination of body and query, and the documented full URL as resource."""
    request, target = of_vector(vector)
    assert request.content_md5 == vector["content_md5"]
    assert signing.sign(vector["secret_key"], request, target) == vector["authorization"]
    assert signing.verify(vector["secret_key"], request, [target], vector["authorization"]) == target


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v["method"])
def test_public_string_vector_shows_secretkey_and_escaped_line_breaks(vector: dict) -> None:
    """The 401 answer helps its author without telling the secret."""
    request, target = of_vector(vector)
    shown = signing.public_string_to_sign(request, target)
    assert shown == vector["string_to_sign_without_key"].replace("\n", "\\n")


def test_public_string_of_large_body_is_cut() -> None:
    """An answer never repeats 64 MB."""
    request = Signable.of("POST", "2026-11-24 08:01:07", "c1", b"x" * 2**20)
    shown = signing.public_string_to_sign(request, Target("/symetry"))
    assert len(shown) == signing.ECHO_CHARS
    assert shown.startswith(f"POST\\n{signing.content_md5(request.body)}\\nSECRETKEY\\n2026-11-24 08:01:07\\nc1\\nxxx")


def test_content_md5_of_contract_learn_body() -> None:
    """Section 9.8 prints it."""
    assert signing.content_md5(LEARN_BODY) == "bPXTb+OmmWaRw/5xwdpfyw=="


@pytest.mark.parametrize("field", ["method", "sym_date", "cid", "body", "resource", "query"])
def test_verify_any_covered_part_changed_fails(field: str) -> None:
    """Nothing that is covered can be altered."""
    parts = {"method": "POST", "sym_date": "2026-11-24 08:01:07;1", "cid": "c1", "body": b"{}"}
    where = {"resource": "/symetry/rest/c1/projects", "query": "pid=p1"}
    signature = signing.sign(SECRET, Signable.of(**parts), Target(**where))
    changed = {**parts, **where}
    changed[field] += b" " if field == "body" else "x"
    request = Signable.of(*(changed[name] for name in parts))
    assert signing.verify(SECRET, request, [Target(changed["resource"], changed["query"])], signature) is None


def test_verify_returns_the_target_that_was_signed() -> None:
    """Callers parse and route by the text that verified, not by another one that was tried."""
    request = Signable.of("GET", "2026-11-24 08:01:07", "c1")
    raw, decoded = Target("/a", "x=%20"), Target("/a", "x= ", decoded=True)
    assert signing.verify(SECRET, request, [raw, decoded], signing.sign(SECRET, request, decoded)) is decoded


@pytest.mark.parametrize("signature", ["", "x", "é", "\ud800", "A" * 100_000])
def test_verify_malformed_signature_is_none(signature: str) -> None:
    """Header text of any kind is compared, never decoded."""
    request = Signable.of("GET", "2026-11-24 08:01:07", "c1")
    assert signing.verify(SECRET, request, [Target("/a")], signature) is None


@given(st.binary(max_size=200), st.text(alphabet="abc=&%", max_size=20))
def test_sign_equals_hmac_over_concatenated_string(body: bytes, query: str) -> None:
    """The pieces are the documented lines; the replay key hashes the very same string after its length."""
    request = Signable.of("POST", "2026-11-24 08:01:07;5", "c1", body)
    target = Target("/symetry/rest/c1/projects", query)
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode() if body else ""
    text = f"POST\n{md5}\n{SECRET}\n2026-11-24 08:01:07;5\nc1\n".encode()
    text += body + b"\n" if body else b""
    text += target.resource.encode() + b"\n" + (f"{query}\n".encode() if query else b"")
    expected = hmac.digest(base64.b64decode(SECRET), text, "sha256")
    assert base64.b64decode(signing.sign(SECRET, request, target)) == expected
    assert signing.replay_key(SECRET, request, target) == hashlib.sha256(join("c1", text)).hexdigest()


@pytest.mark.parametrize("text", ["2014-07-31 08:01:07;1245", "2014-07-31 08:01:07", "2014-07-31 08:01:07;0"])
def test_parse_sym_date_with_and_without_nanoseconds(text: str) -> None:
    """K02: both forms stand in the contract."""
    assert signing.parse_sym_date(text) == 1406793667


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2014-07-31",
        "2014-07-31T08:01:07",
        "2014-07-31 08:01:07;",
        "2014-07-31 08:01:07;-1",
        "2014-07-31 08:01:07;1e3",
        "2014-02-30 08:01:07",
        "2014-07-31 24:01:07",
        "2014-07-31 08:01:07Z",
        " 2014-07-31 08:01:07",
        "2014-07-31 08:01:07\n",
        "٢٠١٤-07-31 08:01:07",
        "0000-01-01 00:00:00",
        "2014-07-31 08:01:07;" + "9" * 100,
    ],
)
def test_parse_sym_date_malformed_is_invalid_date_format(text: str) -> None:
    """Dates that do not exist, other notations, other digits."""
    with pytest.raises(InvalidRequest, match=r"^Invalid Date Format$"):
        signing.parse_sym_date(text)


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_format_sym_date_parses_back(time_ns: int) -> None:
    """What our client writes our server reads."""
    text = signing.format_sym_date(time_ns)
    assert signing.parse_sym_date(text) == time_ns // 1_000_000_000
    assert text.partition(";")[2] == str(time_ns % 1_000_000_000)


@pytest.mark.parametrize(("age_s", "fits"), [(300, True), (300.5, False), (0, True), (-60, True), (-60.5, False)])
def test_check_window_edges(age_s: float, fits: bool) -> None:
    """5 minutes old and 1 minute ahead are the last that fit."""
    date_s = 1_800_000_000
    if fits:
        signing.check_window(date_s, date_s + age_s)
        return
    with pytest.raises(InvalidRequest, match=r"^Please update your server time, it is likely out of sync with UTC$"):
        signing.check_window(date_s, date_s + age_s)


@pytest.mark.parametrize("secret", ["", "x", "====", "t6Zat/ZAJyYBtmVXATUDCQ", "AAAA", "é" * 24, "A" * 400])
def test_decode_secret_malformed_is_refused_without_its_text(secret: str) -> None:
    """Messages never hold keys, not even broken ones."""
    with pytest.raises(InvalidRequest) as caught:
        signing.decode_secret(secret)
    assert not secret or secret not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
