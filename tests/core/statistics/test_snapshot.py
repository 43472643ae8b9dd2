"""Snapshots round-trip to the bit, and malformed bytes are refused with a reason, never with a crash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from gramian.domain.canonical import canonical_json
from gramian.domain.statistics import packed
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.rows import collected, rows_of
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.snapshot import MAX_HEADER_BYTES, decode, encode, read_extra, scan
from gramian.errors import Refused

SEEDS = st.integers(0, 2**32 - 1)
SCHEMA = Schema(("a", "b", "s"), 2, (0, 1, 2))


@pytest.fixture(scope="module")
def moments() -> Moments:
    return accumulate(np.array([[1.0, 2.0, 1.0], [np.nan, 3.0, 0.0], [4.0, 6.0, 1.0]]), SCHEMA)


@given(seed=SEEDS, local=st.booleans())
@settings(deadline=None, max_examples=50)
def test_decode_of_encoded_statistics_gives_the_same_bits(seed: int, local: bool, nasty: Callable) -> None:
    """Every array, also of size 0, and the extremes of columns without values, which are infinite."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    read = decode(encode(m, local=local), schema=schema, local=local)
    assert (read.schema, read.n, read.gaps) == (m.schema, m.n, m.gaps)
    assert all(np.array_equal(getattr(read, name), getattr(m, name)) for name in SUMS)
    assert content_digest(read) == content_digest(m)
    if local:
        assert read.local is not None
        assert m.local is not None
        for name in ("a", "low", "high"):
            assert np.array_equal(getattr(read.local, name), getattr(m.local, name))
    else:
        assert read.local is None


def test_encode_writes_what_the_safetensors_library_writes(moments: Moments) -> None:
    """The same bytes, which that library also reads; names of any letters, arrays of no length."""
    for names in (("a", "b", "s"), ("ä\x01", 'é"\\', "\U0001f600")):
        m = replace(moments, schema=Schema(names, 2, (0, 1, 2)))
        data = bytes(encode(m, extra={"note": "\x7f/ü"}))
        meta = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        assert data == save({name: getattr(m, name) for name in SUMS}, meta)
        assert all(np.array_equal(values, getattr(m, name)) for name, values in load(data).items())


@given(seed=SEEDS)
@settings(deadline=None, max_examples=50)
def test_scan_gives_the_same_bits_block_by_block(seed: int, nasty: Callable) -> None:
    """Statistics that are read in blocks are those that are read at once, and so are their bytes and digest."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    data = encode(m)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gramian.domain.statistics.snapshot.BLOCK_BYTES", 16)
        patch.setattr(packed, "BLOCK_ENTRIES", 3)
        rows, digest = scan(lambda start, size: data[start : start + size])
    assert digest == hashlib.sha256(data).hexdigest()
    assert np.array_equal(rows.summary.squares, rows_of(m).summary.squares)
    read = collected(rows)
    assert content_digest(read) == content_digest(m)
    assert encode(rows) == data


def test_scan_of_other_orders_of_tensors_reads_the_same(moments: Moments) -> None:
    """Only that they follow each other without holes is asked for."""
    data = encode(moments)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body, end = b"", 0
    for name in sorted(SUMS, reverse=True):
        start, stop = header[name]["data_offsets"]
        body += data[8 + size + start : 8 + size + stop]
        header[name]["data_offsets"] = [end, end + stop - start]
        end += stop - start
    turned = framed(json.dumps(header).encode(), body)
    rows, digest = scan(lambda start, size: turned[start : start + size])
    assert digest == hashlib.sha256(turned).hexdigest()
    assert content_digest(collected(rows)) == content_digest(decode(turned)) == content_digest(moments)


def test_scan_of_cut_bytes_is_refused(moments: Moments) -> None:
    """Every shorter prefix."""
    data = encode(moments)
    for end in range(len(data)):
        with pytest.raises(Refused):
            scan(lambda start, size, end=end: data[start : min(start + size, end)])


def test_encode_without_local_carries_no_row_value(moments: Moments) -> None:
    """The name of no local array, nor the extremes, are in what peers get."""
    assert b"local." not in encode(moments)
    assert b"local." in encode(moments, local=True)
    with pytest.raises(ValueError, match="no local arrays"):
        encode(replace(moments, local=None), local=True)


def test_read_extra_returns_what_was_put_in(moments: Moments) -> None:
    """Callers keep small facts beside the arrays."""
    extra = {"unit": "é" * 3, "list": [1, 2.5, None]}
    assert read_extra(encode(moments, extra=extra)) == extra
    assert read_extra(encode(moments)) == {}


def test_decode_of_another_schema_names_the_difference(moments: Moments) -> None:
    """The text says which attribute differs, and how."""
    data = encode(moments)
    with pytest.raises(Refused, match="missing c"):
        decode(data, schema=Schema(("a", "b", "c", "s"), 3, (0, 1, 2, 3)))
    with pytest.raises(Refused, match=r"of another type b \(C for B\)"):
        decode(data, schema=Schema(("a", "b", "s"), 1, (0, 1, 2)))
    with pytest.raises(Refused, match="categories"):
        decode(data, schema=Schema(("a", "b", "s"), 2, (0, 1, 1)))


def test_decode_with_the_wrong_local_is_refused(moments: Moments) -> None:
    """Peers cannot slip local arrays in; the own store must have them."""
    with pytest.raises(Refused, match="tensors too many or too few"):
        decode(encode(moments, local=True))
    with pytest.raises(Refused, match="tensors too many or too few"):
        decode(encode(moments), local=True)


def rebuilt(data: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The snapshot with header and metadata changed in place."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    meta = json.loads(header["__metadata__"]["gramian"])
    change(header, meta)
    if isinstance(header.get("__metadata__"), dict) and "gramian" in header["__metadata__"]:
        header["__metadata__"]["gramian"] = canonical_json(meta).decode()
    return framed(json.dumps(header).encode(), data[8 + size :])


def framed(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


CHANGES: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "no metadata": (lambda h, m: h.pop("__metadata__"), "other metadata"),
    "metadata a list": (lambda h, m: h.update(__metadata__=[]), "other metadata"),
    "second metadata key": (lambda h, m: h["__metadata__"].update(x="y"), "other metadata"),
    "format": (lambda h, m: m.update(format="gramian/snapshot/2"), "not of format"),
    "unknown key": (lambda h, m: m.update(more=1), "canonical"),
    "missing key": (lambda h, m: m.pop("gaps"), "canonical"),
    "n negative": (lambda h, m: m.update(n=-1), "n is not"),
    "n float": (lambda h, m: m.update(n=3.0), "n is not"),
    "n bool": (lambda h, m: m.update(n=True), "n is not"),
    "n huge": (lambda h, m: m.update(n=2**60), "n is not"),
    "gaps text": (lambda h, m: m.update(gaps="0"), "gaps are not"),
    "gaps bool": (lambda h, m: m.update(gaps=[True]), "gaps are not"),
    "gaps nested": (lambda h, m: m.update(gaps=[[0]]), "gaps are not"),
    "gaps twice": (lambda h, m: m.update(gaps=[0, 0]), "gaps are not sorted"),
    "gaps unknown": (lambda h, m: m.update(gaps=[7]), "gaps are not sorted"),
    "gaps more": (lambda h, m: m.update(gaps=[0, 1]), "N is not float64 of shape"),
    "extra a list": (lambda h, m: m.update(extra=[]), "wrong types"),
    "schema text": (lambda h, m: m.update(schema="a"), "schema is not a JSON object"),
    "schema keys": (lambda h, m: m["schema"].update(x=1), "snapshot schema"),
    "schema order": (lambda h, m: m["schema"].update(names=["b", "a", "s"]), "snapshot schema"),
    "schema types": (lambda h, m: m["schema"].update(types="CXB"), "snapshot schema"),
    "schema shorter": (lambda h, m: m["schema"].update(groups=[0, 1]), "snapshot schema"),
    "schema larger": (
        lambda h, m: m["schema"].update(names=["a", "b", "c", "s"], types="CCCB", groups=[0, 1, 2, 3]),
        "is not float64 of shape",
    ),
    "unknown tensor": (
        lambda h, m: h.update(zz={"dtype": "F64", "shape": [0], "data_offsets": [0, 0]}),
        "too many or too few: 'zz'",
    ),
    "missing tensor": (lambda h, m: h.pop("t3"), "too many or too few: 't3'"),
    "dtype": (lambda h, m: h["s"].update(dtype="I64"), "s is not float64"),
    "shape": (lambda h, m: h["s"].update(shape=[1, 3]), "s is not float64"),
    "shape bool": (lambda h, m: h["S"].update(shape=[3, 2]), "S is not float64"),
    "tensor a list": (lambda h, m: h.update(s=[]), "s is not float64"),
    "offsets overlap": (lambda h, m: h["s"].update(data_offsets=[0, 24]), "safetensors"),
    "offsets huge": (lambda h, m: h["s"].update(data_offsets=[2**62, 2**62 + 24]), "safetensors"),
    "offsets text": (lambda h, m: h["s"].update(data_offsets="0"), "safetensors"),
    "offsets missing": (lambda h, m: h["s"].pop("data_offsets"), "safetensors"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_decode_of_a_changed_header_is_refused(kind: str, moments: Moments) -> None:
    """Each field of header and metadata is checked against what it must be."""
    change, text = CHANGES[kind]
    with pytest.raises(Refused, match=text):
        decode(rebuilt(encode(moments), change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\x00" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 1),
        framed(b"[]", b""),
        framed(b"{}", b""),
        framed(b"\xff\xfe", b""),
        framed(b"[" * 100_000, b""),
        framed(b'{"a":' * 50_000, b""),
        framed(b'{"s":NaN}', b""),
        framed(b'{"s":1,"s":2}', b""),
        framed(b'{"__metadata__":{"gramian":5}}', b""),
        framed(b'{"__metadata__":{"gramian":"{\\"format\\":1}"}}', b""),
        framed(b'{"__metadata__":{"gramian":"[]"}}', b""),
        framed(b'{"__metadata__":{"gramian":"{"}}', b""),
        framed(b'{"n":' + b"9" * 10_000 + b"}", b""),
    ],
    ids=range(17),
)
def test_decode_of_malformed_bytes_is_refused(data: bytes) -> None:
    """Header bombs, nesting bombs, wrong JSON: refused before anything of their size happens."""
    with pytest.raises(Refused):
        decode(data)
    with pytest.raises(Refused):
        read_extra(data)


def test_decode_of_surrogates_in_names_is_refused(moments: Moments) -> None:
    """A lone surrogate is JSON, but has no UTF-8."""
    data = encode(moments)
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b'\\"a\\"', b'\\"\\\\ud800\\"')
    with pytest.raises(Refused):
        decode(framed(header, data[8 + size :]))


def test_decode_of_metadata_that_is_not_canonical_is_refused(moments: Moments) -> None:
    """The same content has one spelling."""
    data = encode(moments)
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].replace(b'\\"n\\":3', b'\\"n\\": 3')
    with pytest.raises(Refused, match="canonical"):
        decode(framed(header, data[8 + size :]))


def test_decode_of_cut_or_padded_bytes_is_refused(moments: Moments) -> None:
    """Every shorter prefix, and a byte or a number too many."""
    data = encode(moments)
    for end in range(len(data)):
        with pytest.raises(Refused):
            decode(data[:end])
    for tail in (b"\x00", b"\x00" * 8):
        with pytest.raises(Refused, match="to spare"):
            decode(data + tail)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_decode_of_one_changed_byte_reads_or_refuses(position: int, byte: int, moments: Moments) -> None:
    """No byte of the file can raise anything but Refused."""
    data = bytearray(encode(moments))
    data[position % len(data)] = byte
    try:
        read = decode(bytes(data))
    except Refused:
        return
    assert read.s.shape == (read.schema.size,)
