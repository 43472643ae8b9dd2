"""Statistics as bytes: safetensors whose single metadata key holds canonical JSON (statistics.md, sections 1, 5).

Bytes come from stores and peers alike, so reading trusts no size, name or type in them: what the schema and the
gap groups imply is what must be there, down to the last byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gramian.domain.canonical import canonical_json
from gramian.domain.statistics.layout import MOST_ROWS, SUMS, shapes
from gramian.domain.statistics.moments import Array, LocalMoments, Moments
from gramian.domain.statistics.schema import Schema
from gramian.errors import Refused

FORMAT = "gramian/snapshot/1"
METADATA_KEY = "gramian"
MAX_HEADER_BYTES = 8 * 2**20
"""Longest header that is parsed: room for some 10,000 attributes with long names."""
LOCAL = ("a", "low", "high")
_PREFIX_BYTES = 8


def encode(m: Moments, *, local: bool = False, extra: Mapping[str, object] | None = None) -> bytes:
    """Snapshot bytes: little-endian float64, no negative zeros. `extra` is any JSON object to keep beside them.

    With `local` also A and the extremes: for the node's own store, never for peers. Raises ValueError if they are
    asked for and not there.
    """
    tensors = {name: _little(getattr(m, name)) for name in SUMS}
    if local:
        if m.local is None:
            raise ValueError("these statistics have no local arrays")
        tensors |= {f"local.{name}": _little(getattr(m.local, name)) for name in LOCAL}
    meta = {
        "extra": dict(extra or {}),
        "format": FORMAT,
        "gaps": list(m.gaps),
        "n": m.n,
        "schema": m.schema.to_json(),
    }
    return save(tensors, {METADATA_KEY: canonical_json(meta).decode()})


def decode(data: bytes, *, schema: Schema | None = None, local: bool = False) -> Moments:
    """Read what `encode` wrote with the same `local`.

    Raises Refused, with the reason, for anything else: another format or schema, sizes that do not fit, tensors too
    many or too few. Whether the numbers make sense is for `checks.verify`.
    """
    meta, tensors, body = _read_header(data)
    if schema is not None and meta.schema != schema:
        raise Refused(f"its attributes differ from those expected: {meta.schema.difference(schema)}")
    expected = shapes(meta.schema, len(meta.gaps))
    if local:
        expected |= {f"local.{name}": (meta.schema.size,) for name in LOCAL}
    _check_tensors(tensors, expected, body)
    try:
        arrays: dict[str, Array] = load(data)
    except SafetensorError as error:
        raise Refused(f"snapshot is not valid safetensors: {error}") from error
    return Moments(
        schema=meta.schema,
        n=meta.n,
        gaps=meta.gaps,
        local=LocalMoments(*(arrays[f"local.{name}"] for name in LOCAL)) if local else None,
        **{name: arrays[name] for name in SUMS},
    )


def read_extra(data: bytes) -> dict[str, Any]:
    """The `extra` of a snapshot. Raises Refused as `decode` does for a bad header."""
    return _read_header(data)[0].extra


def _little(values: Array) -> Array:
    return np.ascontiguousarray(values + 0.0, dtype="<f8")


@dataclass(frozen=True, slots=True)
class _Meta:
    schema: Schema
    n: int
    gaps: tuple[int, ...]
    extra: dict[str, Any]


def _read_header(data: bytes) -> tuple[_Meta, dict[str, Any], int]:
    """Metadata, tensor descriptions and the bytes that are left for tensors."""
    size = int.from_bytes(data[:_PREFIX_BYTES], "little")
    body = len(data) - _PREFIX_BYTES - size
    if len(data) < _PREFIX_BYTES or size > MAX_HEADER_BYTES or body < 0:
        raise Refused("snapshot has no header, or one beyond all bounds")
    tensors = _parse_object(data[_PREFIX_BYTES : _PREFIX_BYTES + size], "header")
    metadata = tensors.pop("__metadata__", None)
    if not isinstance(metadata, dict) or set(metadata) != {METADATA_KEY}:
        raise Refused("snapshot has other metadata than ours")
    text = metadata[METADATA_KEY]
    if not isinstance(text, str):
        raise Refused("snapshot metadata is not text")
    return _read_meta(text), tensors, body


def _read_meta(text: str) -> _Meta:
    meta = _parse_object(text, "metadata")
    if meta.get("format") != FORMAT:
        raise Refused(f"snapshot is not of format {FORMAT}")
    if set(meta) != {"extra", "format", "gaps", "n", "schema"} or not _is_canonical(meta, text):
        raise Refused("snapshot metadata is not in canonical form")
    n, gaps, extra = meta["n"], meta["gaps"], meta["extra"]
    if type(n) is not int or not 0 <= n <= MOST_ROWS:
        raise Refused("n is not a whole number up to 2^53")
    if not isinstance(extra, dict) or not isinstance(meta["schema"], dict):
        raise Refused("snapshot metadata has values of wrong types")
    try:
        schema = Schema.from_json(meta["schema"])
    except ValueError as error:
        raise Refused(f"snapshot schema: {error}") from error
    if not isinstance(gaps, list) or any(type(group) is not int for group in gaps):
        raise Refused("gaps are not a list of mask groups")
    if gaps != sorted(set(gaps)) or not set(gaps) <= set(schema.groups):
        raise Refused("gaps are not sorted mask groups of the schema")
    return _Meta(schema, n, tuple(gaps), extra)


def _is_canonical(value: dict[str, Any], text: str) -> bool:
    try:
        return canonical_json(value) == text.encode()
    except (ValueError, RecursionError):  # infinities, lone surrogates, bottomless nesting
        return False


def _parse_object(text: str | bytes, what: str) -> dict[str, Any]:
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


def _check_tensors(tensors: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]], body: int) -> None:
    if set(tensors) != set(expected):
        odd = min(set(tensors) ^ set(expected))
        raise Refused(f"snapshot has tensors too many or too few: {odd[:40]!r}")
    for name, shape in expected.items():
        tensor = tensors[name]
        if not isinstance(tensor, dict) or tensor.get("dtype") != "F64" or tensor.get("shape") != list(shape):
            raise Refused(f"{name} is not float64 of shape {shape}")
    if body != 8 * sum(prod(shape) for shape in expected.values()):
        raise Refused("snapshot is cut short or has bytes to spare")
