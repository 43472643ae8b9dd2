"""The contract's JSON dialect: what it forgives, what it refuses, and how quickly."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain import jsonio
from gramian.errors import InvalidRequest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(deadline=None)
def test_both_readers_agree_with_the_standard_library(value: object) -> None:
    """Strict JSON means the same to the quick and to the careful reader."""
    for data in (json.dumps(value).encode(), json.dumps(value, indent=1, ensure_ascii=False).encode()):
        expected = json.loads(data)
        assert jsonio.loads(data) == expected
        assert jsonio.loads(data, unique_keys=True) == expected


@given(VALUES)
@settings(deadline=None)
def test_trailing_commas_change_nothing(value: object) -> None:
    """Before every closing bracket that has something before it."""
    loose = _with_trailing_commas(value)
    assert jsonio.loads(loose.encode()) == json.loads(json.dumps(value))


def _with_trailing_commas(value: object) -> str:
    if isinstance(value, list) and value:
        return "[" + " ,".join(map(_with_trailing_commas, value)) + " , ]"
    if isinstance(value, dict) and value:
        return "{" + ",".join(f"{json.dumps(k)} : {_with_trailing_commas(v)}" for k, v in value.items()) + ",\n}"
    return json.dumps(value)


def test_loads_contract_invitation_with_trailing_comma() -> None:
    """Section 9.2, as printed."""
    data = b"""{
    "sync_sched":"m1",
    "nats_hosts":"nats://localhost:4222",
    "fed_req_token":"FEDTOKEN38f45fe16545e80c",
}"""
    assert jsonio.loads(data) == {
        "sync_sched": "m1",
        "nats_hosts": "nats://localhost:4222",
        "fed_req_token": "FEDTOKEN38f45fe16545e80c",
    }


def test_loads_bare_words_give_non_finite_doubles() -> None:
    """Replies of the contract hold them."""
    low, high, nan = jsonio.loads(b"[-Infinity, Infinity, NaN]")
    assert (low, high) == (-math.inf, math.inf)
    assert math.isnan(nan)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"[",
        b"{",
        b"]",
        b"[1",
        b"[1 2]",
        b"[1]]",
        b"[1] 2",
        b"[,]",
        b"[,1]",
        b"[1,,]",
        b"{,}",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,,}',
        b'{"a" 1}',
        b"{a:1}",
        b"{1:1}",
        b"{'a':1}",
        b'{"a":1]',
        b'["a":1]',
        b"01",
        b"+1",
        b"1.",
        b".5",
        b"1e",
        b"0x1",
        b"- 1",
        b"1_0",
        b"-NaN",
        b"nan",
        b"infinity",
        b"+Infinity",
        b"True",
        b"nul",
        b"nullx",
        b'"',
        b'"a',
        b'"\\x"',
        b'"\\u12"',
        b'"\x01"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"1e999",
        b"-1e999",
        b"9" * 5000,
        b"/* */ 1",
        b"[1] // x",
        b"\x00",
    ],
)
def test_loads_malformed_is_refused(data: bytes) -> None:
    """By both readers, with an error that is fit for users."""
    for unique_keys in (False, True):
        with pytest.raises(InvalidRequest, match="JSON"):
            jsonio.loads(data, unique_keys=unique_keys)


def test_loads_malformed_names_the_place() -> None:
    """Counted in characters from 0."""
    with pytest.raises(InvalidRequest, match="at character 9: expected a value"):
        jsonio.loads(b'{"a":[1,,2]}'.replace(b"[1,", b"[1 ,"))


def test_loads_huge_number_as_text_stays_text() -> None:
    """Only a cell's reader decides what 1e999 means."""
    assert jsonio.loads(b'["1e999"]') == ["1e999"]


@pytest.mark.parametrize("prefix", [b"[", b'{"a":', b"[{}, [", b'[{"a":['])
def test_loads_million_levels_is_refused_quickly(prefix: bytes) -> None:
    """No recursion, no quadratic time, in either reader."""
    data = prefix * 1_000_000
    started = time.perf_counter()
    for unique_keys in (False, True):
        with pytest.raises(InvalidRequest):
            jsonio.loads(data[: jsonio.MAX_LENIENT_BYTES], unique_keys=unique_keys)
    with pytest.raises(InvalidRequest, match="nested deeper than 64"):
        jsonio.loads(data)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("tail", [b"1", b"1 , "])
def test_loads_depth_limit_is_exact(opening: bytes, tail: bytes) -> None:
    """64 levels are read and 65 refused, strict and lenient, whatever brackets stand in strings."""
    closing = b"]" if opening == b"[" else b"}"

    def nested(depth: int) -> bytes:
        return b'["[[[[{{{{\\"[[",' * (depth > 0) + opening * (depth - 1) + tail + closing * (depth - 1) + b"]"

    jsonio.loads(nested(64))
    with pytest.raises(InvalidRequest, match="nested deeper than 64"):
        jsonio.loads(nested(65))


def test_loads_wide_is_not_deep() -> None:
    """Many brackets side by side are fine."""
    assert jsonio.loads(b"[" + b"[1]," * 1000 + b"{}]")[-1] == {}


def test_loads_repeated_key_last_counts_or_is_refused() -> None:
    """Refused where a map decides on access."""
    for data in (b'{"a":1,"a":2}', b'{"a":1,"a":2,}', b'{"a":1,"\\u0061":2}'):
        assert jsonio.loads(data) == {"a": 2}
        with pytest.raises(InvalidRequest, match="a key appears twice"):
            jsonio.loads(data, unique_keys=True)


def test_loads_large_input_must_be_strict() -> None:
    """The slow reader is not for 64 MB."""
    data = b"[" + b"1," * (jsonio.MAX_LENIENT_BYTES // 2) + b"]"
    with pytest.raises(InvalidRequest, match="strict JSON"):
        jsonio.loads(data)


@pytest.mark.parametrize(
    "data", [b'"' + b'\\"' * 500_000, b'["' + b"\\" * 1_000_000, b" " * 1_000_000, b"1" * 1_000_000]
)
def test_loads_adversarial_text_takes_linear_time(data: bytes) -> None:
    """Unterminated strings and long runs do not make the readers go back and forth."""
    started = time.perf_counter()
    for unique_keys in (False, True):
        with pytest.raises(InvalidRequest):
            jsonio.loads(data, unique_keys=unique_keys)
    assert time.perf_counter() - started < 1


@given(st.binary(max_size=60) | st.text(alphabet='[]{},:"\\ 1-.eNaInfinitytrue', max_size=40).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_loads_arbitrary_input_reads_or_refuses(data: bytes) -> None:
    """No input gives another exception, and the readers agree on what is strict JSON."""
    try:
        value = jsonio.loads(data)
    except InvalidRequest:
        return
    assert jsonio.dumps(value)


@pytest.mark.parametrize(
    ("value", "loose", "strict"),
    [
        ({"a": math.inf, "b": None}, b'{"a":Infinity,"b":null}', b'{"a":null,"b":null}'),
        ([-math.inf, math.nan, 1.0], b"[-Infinity,NaN,1.0]", b"[null,null,1.0]"),
        ({"ä": "<&=>\n"}, '{"ä":"<&=>\\n"}'.encode(), '{"ä":"<&=>\\n"}'.encode()),
        ("null", b'"null"', b'"null"'),
        ({"count": 150.0}, b'{"count":150.0}', b'{"count":150.0}'),
    ],
)
def test_dumps_non_finite_follows_contract_or_null(value: object, loose: bytes, strict: bytes) -> None:
    """Everything else is the same compact JSON in both."""
    assert jsonio.dumps(value) == loose
    assert jsonio.dumps(value, strict=True) == strict


@given(VALUES | st.lists(st.floats()))
@settings(deadline=None)
def test_dumps_reads_back(value: object) -> None:
    """Doubles keep every bit."""
    assert repr(jsonio.loads(jsonio.dumps(value))) == repr(value)
