"""What handlers see: parameters, maps, and seals in kind."""

from __future__ import annotations

import base64
import json

import pytest

from gramian.domain import sealing
from gramian.domain.sealing import Scheme
from gramian.errors import BadSeal, InvalidRequest
from gramian.http.request import Call, flat_map, parse_query

KEY = b"sixteen byte key"
PATH = "/symetry/rest/c1/fedml/create"


def call(body: bytes = b"", require_v2: bool = False, **parameters: str) -> Call:
    return Call("c1", "POST", PATH, parameters, body, KEY, require_v2)


def sealed(value: object, scheme: Scheme) -> bytes:
    data = json.dumps(value).encode()
    return sealing.seal_body(data, KEY, scheme, lambda n: bytes(n), method="POST", cid="c1", path=PATH).encode()


def test_query_any_name_in_any_case() -> None:
    """K24: two spellings, and capitals."""
    parameters = parse_query("newname=a&Modelid=m&empty=", decoded=False)
    asked = Call("c1", "GET", PATH, parameters, b"", KEY)
    assert asked.query("newName", "rename") == "a"
    assert asked.query("rename", "newName") == "a"
    assert asked.query("modelid") == "m"
    assert asked.query("other") is None
    assert asked.need("modelid") == "m"
    for name in ("other", "empty"):
        with pytest.raises(InvalidRequest, match=f"parameter {name} is missing"):
            asked.need(name)


def test_query_two_names_with_different_values_is_refused() -> None:
    """Nobody should have to guess which one counts."""
    assert call(newname="a", rename="a").query("newName", "rename") == "a"
    with pytest.raises(InvalidRequest, match="newName twice"):
        call(newname="a", rename="b").query("newName", "rename")


def test_flag_is_true_false_or_default() -> None:
    """Anything else is a mistake that must not pass as either."""
    assert call(persist="TRUE").flag("persist", default=False) is True
    assert call(persist="false").flag("persist", default=True) is False
    assert call().flag("persist", default=True) is True
    with pytest.raises(InvalidRequest, match="persist must be true or false"):
        call(persist="1").flag("persist", default=True)


@pytest.mark.parametrize(
    ("text", "decoded", "expected"),
    [
        ("", False, {}),
        ("a", False, {"a": ""}),
        ("a=1&&b=2&", False, {"a": "1", "b": "2"}),
        ("a=b=c", False, {"a": "b=c"}),
        ("a=%26&%62=1%2B1+1", False, {"a": "&", "b": "1+1+1"}),
        ("a=%26", True, {"a": "%26"}),
        ("a=é x", True, {"a": "é x"}),
    ],
)
def test_parse_query_forms(text: str, decoded: bool, expected: dict) -> None:
    """Escapes are undone once or not at all; a plus is a plus."""
    assert parse_query(text, decoded=decoded) == expected


@pytest.mark.parametrize("scheme", list(Scheme))
def test_opened_map_flat_or_wrapped(scheme: Scheme) -> None:
    """K39: both shapes of the create body; nulls count as absent."""
    value = {"fed_name": "f", "fed_encrypt": True, "nats_req_timeout": 30, "x": None}
    expected = {"fed_name": "f", "fed_encrypt": True, "nats_req_timeout": 30}
    assert call(sealed(value, scheme)).opened_map() == expected
    assert call(sealed({"values": [value]}, scheme)).opened_map() == expected


def test_opened_map_without_body_says_what_is_needed() -> None:
    """Not that decryption failed."""
    with pytest.raises(InvalidRequest, match="needs a body"):
        call().opened_map()


def test_opened_map_of_too_many_keys_is_refused() -> None:
    """Every key is looked up: a body of millions would keep a thread busy."""
    assert len(call(sealed({f"k{n}": n for n in range(1000)}, Scheme.V2)).opened_map()) == 1000
    with pytest.raises(InvalidRequest, match="the map has 1001 keys; at most 1000 are allowed"):
        call(sealed({f"k{n}": n for n in range(1001)}, Scheme.V2)).opened_map()


def test_opened_map_of_another_path_is_bad_seal() -> None:
    """v2 binds a body to its place."""
    other = Call("c1", "POST", "/symetry/rest/c1/fedml/createJoin", {}, sealed({}, Scheme.V2), KEY)
    with pytest.raises(BadSeal):
        other.opened_map()


def test_require_v2_refuses_v1_and_answers_in_v2() -> None:
    """GRAMIAN_REQUIRE_V2=1."""
    with pytest.raises(InvalidRequest, match="old ciphers"):
        call(sealed({}, Scheme.V1), require_v2=True).opened_map()
    assert call(require_v2=True).scheme is Scheme.V2


@pytest.mark.parametrize(
    ("asked", "scheme"),
    [
        (call(sealed({}, Scheme.V1)), Scheme.V1),
        (call(sealed({}, Scheme.V2)), Scheme.V2),
        (call(), Scheme.V1),
        (call(seal="v2"), Scheme.V2),
    ],
    ids=["v1 body", "v2 body", "no body", "asked for v2"],
)
def test_replies_are_sealed_in_kind(asked: Call, scheme: Scheme) -> None:
    """Entities with the user's key, invitations with their password."""
    value = {"fed_name": "f", "x": 1}
    text = asked.seal_reply(value).encode()
    opened, used = sealing.open_body(text, KEY, method="POST", cid="c1", path=PATH)
    assert (json.loads(opened), used) == (value, scheme)
    opened, used = sealing.open_invitation(asked.seal_invitation(value, "passwd").encode(), "passwd")
    assert (json.loads(opened), used) == (value, scheme)


def test_v2_replies_never_repeat() -> None:
    """Nonces are fresh."""
    assert call(seal="v2").seal_reply({}) != call(seal="v2").seal_reply({})


def test_plain_map_is_optional() -> None:
    """The body of a project's create."""
    assert call().plain_map() == {}
    assert call(b'{"sml_project_autosave":"true",}').plain_map() == {"sml_project_autosave": "true"}


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b'"x"',
        b"null",
        b'{"a":{}}',
        b'{"a":[1]}',
        b'{"a":1,"a":2}',
        b'{"values":[]}',
        b'{"values":[{},{}]}',
        b'{"values":[1]}',
        b'{"values":[{"a":[]}]}',
        b"{",
        b"\xff",
    ],
)
def test_flat_map_other_shapes_are_refused(data: bytes) -> None:
    """Repeated keys, too: these maps hold tokens and keys."""
    with pytest.raises(InvalidRequest):
        flat_map(data)


def test_call_repr_holds_no_secret() -> None:
    """Debuggers and logs print reprs."""
    text = repr(call(b"private body", token="private parameter"))
    assert "private" not in text
    assert "sixteen" not in text
    assert base64.b64encode(KEY).decode() not in text
