"""Statistics as bytes: safetensors whose single metadata key holds canonical JSON (statistics.md, sections 1, 5).

Bytes come from stores and peers alike, so reading trusts no size, name or type in them: what the schema and the
gap groups imply is what must be there, down to the last byte. Nothing is copied: arrays are views of the bytes, and
of a snapshot too large for memory only blocks are read (`scan`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np

from gramian.domain.canonical import Data, canonical_json
from gramian.domain.statistics import packed
from gramian.domain.statistics.layout import MOST_ROWS, SUMS, shapes
from gramian.domain.statistics.moments import Array, LocalMoments, Moments, Summary
from gramian.domain.statistics.rows import Block, Rows, rows_of
from gramian.domain.statistics.schema import Schema
from gramian.errors import Refused

FORMAT = "gramian/snapshot/1"
METADATA_KEY = "gramian"
MAX_HEADER_BYTES = 8 * 2**20
"""Longest header that is parsed: room for some 10,000 attributes with long names."""
LOCAL = ("a", "low", "high")
_MOVED = ("P", "G", "S", "Q")
"""What is new in statistics about another origin."""
BLOCK_BYTES = 8 * packed.BLOCK_ENTRIES
_PREFIX_BYTES = 8
_SCHEMA_MARK = ',"schema":'

Read: TypeAlias = Callable[[int, int], Data]
"""(start, size) -> those bytes of a stored snapshot, fewer at its end."""


def encode(m: Moments | Rows, *, local: bool = False, extra: Mapping[str, object] | None = None) -> bytearray:
    """Snapshot bytes: little-endian float64, no negative zeros. `extra` is any JSON object to keep beside them.

    With `local` also A and the extremes: for the node's own store, never for peers. Raises ValueError if they are
    asked for and not there. Takes no memory but the result's.
    """
    rows = rows_of(m) if isinstance(m, Moments) else m
    summary = rows.summary
    arrays = {name: getattr(summary, name) for name in SUMS if name not in ("P", "G")}
    if local:
        kept = m.local if isinstance(m, Moments) else None
        if kept is None:
            raise ValueError("these statistics have no local arrays")
        arrays |= {f"local.{name}": getattr(kept, name) for name in LOCAL}
    places, data = _framed(summary, local=local, extra=extra or {})
    for name, values in arrays.items():
        _put(data, places[name], values)
    p, c = summary.size, summary.schema.continuous
    for first, last in packed.blocks(p):
        P, G = rows.read(first, last)
        _put(data, places["P"] + 8 * packed.span(first, last, p).start, P)
        _put(data, places["G"] + 8 * min(first, c) * (p - c), G)
    return data


def decode(data: Data, *, schema: Schema | None = None, local: bool = False) -> Moments:
    """Read what `encode` wrote with the same `local`. The large arrays are views of `data`, which must not change.

    Raises Refused, with the reason, for anything else: another format or schema, sizes that do not fit, tensors too
    many or too few. Whether the numbers make sense is for `checks.verify`.
    """
    meta, places = _contents(data, len(data), schema, local=local)
    arrays = {name: _view(data, *place) for name, place in places.items()}
    # A view, be it empty, keeps all of `data`: what other statistics take over from these must not be one.
    arrays |= {name: values.copy() for name, values in arrays.items() if name not in _MOVED or not values.size}
    return _moments(meta, arrays, local=local)


def scan(read: Read) -> tuple[Rows, str]:
    """A stored snapshot by blocks, and the SHA-256 (hex) of its bytes, all of which are read once. Raises Refused."""
    prefix = read(0, _PREFIX_BYTES)
    size = min(int.from_bytes(prefix, "little"), MAX_HEADER_BYTES + 1)
    head = prefix + read(_PREFIX_BYTES, size)
    meta, places = _contents(head, None, None, local=False)
    sha = hashlib.sha256(head)
    arrays: dict[str, Array] = {}
    for name, (start, shape) in sorted(places.items(), key=lambda place: place[1][0]):
        parts = _hashed(read, start, 8 * prod(shape), sha)
        if name == "P":
            arrays["squares"] = _diagonal(parts, meta.schema.size)
        elif name == "G":
            for _ in parts:
                pass
        else:
            arrays[name] = _view(b"".join(parts), 0, shape)
    summary = Summary(schema=meta.schema, n=meta.n, gaps=meta.gaps, **arrays)
    return Rows(summary, _blocks(read, meta.schema, places["P"][0], places["G"][0])), sha.hexdigest()


def read_extra(data: Data) -> dict[str, Any]:
    """The `extra` of a snapshot. Raises Refused as `decode` does for a bad header."""
    return _read_header(data)[0].extra


def _framed(m: Summary, *, local: bool, extra: Mapping[str, object]) -> tuple[dict[str, int], bytearray]:
    """Where each array begins, and the snapshot with its header and zeros for the arrays."""
    expected = _expected(m.schema, len(m.gaps), local=local)
    meta = {"extra": dict(extra), "format": FORMAT, "gaps": list(m.gaps), "n": m.n, "schema": m.schema.to_json()}
    header: dict[str, object] = {"__metadata__": {METADATA_KEY: canonical_json(meta).decode()}}
    ends = {}
    end = 0
    for name in sorted(expected):
        start, end = end, end + 8 * prod(expected[name])
        ends[name] = start
        header[name] = {"dtype": "F64", "shape": list(expected[name]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    data = bytearray(_PREFIX_BYTES + len(text) + end)
    data[: _PREFIX_BYTES + len(text)] = len(text).to_bytes(_PREFIX_BYTES, "little") + text
    return {name: _PREFIX_BYTES + len(text) + start for name, start in ends.items()}, data


def _put(data: bytearray, start: int, values: Array) -> None:
    np.add(values.reshape(-1), 0.0, out=np.frombuffer(data, "<f8", values.size, start))


def _expected(schema: Schema, q: int, *, local: bool) -> dict[str, tuple[int, ...]]:
    own = {f"local.{name}": (schema.size,) for name in LOCAL} if local else {}
    return shapes(schema, q) | own


def _contents(
    data: Data, size: int | None, schema: Schema | None, *, local: bool
) -> tuple[_Meta, dict[str, tuple[int, tuple[int, ...]]]]:
    """What the header says, and where each array begins. `size`: of the whole snapshot, if known. Raises Refused."""
    meta, tensors, start = _read_header(data)
    if schema is not None and meta.schema != schema:
        raise Refused(f"its attributes differ from those expected: {meta.schema.difference(schema)}")
    expected = _expected(meta.schema, len(meta.gaps), local=local)
    offsets = _offsets(tensors, expected)
    if size is not None and size != start + 8 * sum(prod(shape) for shape in expected.values()):
        raise Refused("snapshot is cut short or has bytes to spare")
    return meta, {name: (start + offsets[name], shape) for name, shape in expected.items()}


def _view(data: Data, start: int, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(data, "<f8", prod(shape), start).reshape(shape)


def _moments(meta: _Meta, arrays: Mapping[str, Array], *, local: bool) -> Moments:
    return Moments(
        schema=meta.schema,
        n=meta.n,
        gaps=meta.gaps,
        local=LocalMoments(*(arrays[f"local.{name}"] for name in LOCAL)) if local else None,
        **{name: arrays[name] for name in SUMS},
    )


def _hashed(read: Read, start: int, size: int, sha: Any) -> Iterator[Data]:
    """Consecutive parts. Raises Refused if the snapshot ends too early."""
    for offset in range(0, size, BLOCK_BYTES):
        part = read(start + offset, min(BLOCK_BYTES, size - offset))
        if len(part) != min(BLOCK_BYTES, size - offset):
            raise Refused("snapshot is cut short or has bytes to spare")
        sha.update(part)
        yield part


def _diagonal(parts: Iterator[Data], p: int) -> Array:
    """(p,) of a packed matrix that comes in parts."""
    places, found = packed.diagonal(p), np.empty(p)
    start = 0
    for part in parts:
        values = np.frombuffer(part, "<f8")
        here = slice(*np.searchsorted(places, (start, start + len(values))))
        found[here] = values[places[here] - start]
        start += len(values)
    return found


def _blocks(read: Read, schema: Schema, P_start: int, G_start: int) -> Callable[[int, int], Block]:
    p, c = schema.size, schema.continuous

    def block(first: int, last: int) -> Block:
        span, width = packed.span(first, last, p), p - c
        count = max(min(last, c) - first, 0) * width
        P = read(P_start + 8 * span.start, 8 * (span.stop - span.start))
        G = read(G_start + 8 * first * width, 8 * count) if count else b""
        if len(P) != 8 * (span.stop - span.start) or len(G) != 8 * count:
            raise Refused("snapshot is cut short or has bytes to spare")
        rows = max(min(last, c) - first, 0)
        return np.frombuffer(P, "<f8").copy(), np.frombuffer(G, "<f8").reshape(rows, width).copy()

    return block


@dataclass(frozen=True, slots=True)
class _Meta:
    schema: Schema
    n: int
    gaps: tuple[int, ...]
    extra: dict[str, Any]


def _read_header(data: Data) -> tuple[_Meta, dict[str, Any], int]:
    """Metadata, tensor descriptions and where the tensors begin."""
    size = int.from_bytes(data[:_PREFIX_BYTES], "little")
    if len(data) < _PREFIX_BYTES or size > MAX_HEADER_BYTES or len(data) < _PREFIX_BYTES + size:
        raise Refused("snapshot has no header, or one beyond all bounds")
    tensors = _parse_object(data[_PREFIX_BYTES : _PREFIX_BYTES + size], "header")
    metadata = tensors.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {METADATA_KEY}:
        raise Refused("snapshot has other metadata than ours")
    text = metadata[METADATA_KEY]
    if not isinstance(text, str):
        raise Refused("snapshot metadata is not text")
    return _read_meta(text), tensors, _PREFIX_BYTES + size


def _read_meta(text: str) -> _Meta:
    # In canonical form the schema comes last, and most snapshots of a process have the same.
    first, mark, last = text.rpartition(_SCHEMA_MARK)
    meta = _parse_object(first + "}" if mark else text, "metadata")
    if meta.get("format") != FORMAT:
        raise Refused(f"snapshot is not of format {FORMAT}")
    if not mark or set(meta) != {"extra", "format", "gaps", "n"} or not _is_canonical(meta, first + "}"):
        raise Refused("snapshot metadata is not in canonical form")
    n, gaps, extra = meta["n"], meta["gaps"], meta["extra"]
    if type(n) is not int or not 0 <= n <= MOST_ROWS:
        raise Refused("n is not a whole number up to 2^53")
    if not isinstance(extra, dict):
        raise Refused("snapshot metadata has values of wrong types")
    schema = _read_schema(last.removesuffix("}"))
    if not isinstance(gaps, list) or any(type(group) is not int for group in gaps):
        raise Refused("gaps are not a list of mask groups")
    if gaps != sorted(set(gaps)) or not set(gaps) <= set(schema.groups):
        raise Refused("gaps are not sorted mask groups of the schema")
    return _Meta(schema, n, tuple(gaps), extra)


@lru_cache(maxsize=8)
def _read_schema(text: str) -> Schema:
    value = _parse_object(text, "schema")
    if not _is_canonical(value, text):
        raise Refused("snapshot metadata is not in canonical form")
    try:
        return Schema.from_json(value)
    except ValueError as error:
        raise Refused(f"snapshot schema: {error}") from error


def _is_canonical(value: dict[str, Any], text: str) -> bool:
    try:
        return canonical_json(value) == text.encode()
    except (ValueError, RecursionError):  # infinities, lone surrogates, bottomless nesting
        return False


def _parse_object(text: str | Data, what: str) -> dict[str, Any]:
    """A JSON object. Twice the same key is refused: parsers differ in which one counts."""
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"snapshot {what} is not JSON") from error
    if not isinstance(value, dict):
        raise Refused(f"snapshot {what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _offsets(tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Where each tensor begins: one after the other, in any order, without holes. Raises Refused."""
    if set(tensors) != set(expected):
        odd = min(set(tensors) ^ set(expected))
        raise Refused(f"snapshot has tensors too many or too few: {odd[:40]!r}")
    ranges = {}
    for name, shape in expected.items():
        tensor = tensors[name]
        if not isinstance(tensor, dict) or tensor.get("dtype") != "F64" or tensor.get("shape") != list(shape):
            raise Refused(f"{name} is not float64 of shape {shape}")
        offsets = tensor.get("data_offsets")
        if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
            raise Refused("snapshot is not valid safetensors: a tensor has no place")
        ranges[name] = (offsets[0], offsets[1])
    end = 0
    for name, (start, stop) in sorted(ranges.items(), key=lambda item: item[1]):
        if start != end or stop != start + 8 * prod(expected[name]):
            raise Refused(f"snapshot is not valid safetensors: {name} is not where it must be")
        end = stop
    return {name: start for name, (start, _) in ranges.items()}
