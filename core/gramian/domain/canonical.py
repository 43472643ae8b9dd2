"""Bytes that are signed, hashed or authenticated: one spelling per meaning."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

Data: TypeAlias = bytes | bytearray
"""Bytes that whoever takes them does not change."""


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def join(*parts: bytes | str) -> bytes:
    """The protocol's `||`: each part after its 4-byte big-endian length, since plain concatenation is ambiguous."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
