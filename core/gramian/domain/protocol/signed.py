"""A signed message: 64 bytes of Ed25519 signature, then the very bytes that were signed."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gramian.domain import typed
from gramian.domain.canonical import canonical_json
from gramian.domain.crypto import SIGNATURE_BYTES, sign, verify
from gramian.errors import Refused

T = TypeVar("T", bound=msgspec.Struct)


def pack(value: msgspec.Struct, key: Ed25519PrivateKey, label: str) -> bytes:
    """Sign the canonical JSON of `value`."""
    body = canonical_json(msgspec.to_builtins(value))
    return sign(key, label, body) + body


def parse(message: bytes, kind: type[T], label: str, *, max_bytes: int) -> T:
    """Decode without checking the signature: only for finding out whose it must be. Raises Refused."""
    if not SIGNATURE_BYTES < len(message) <= max_bytes:
        raise Refused(f"the {label} has {len(message)} bytes, allowed are {max_bytes}")
    try:
        return typed.decode(message[SIGNATURE_BYTES:], kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(f"the {label} is malformed: {error}") from error


def check(message: bytes, public: bytes, label: str) -> None:
    """Raise Refused unless `public` signed the message."""
    verify(public, label, message[SIGNATURE_BYTES:], message[:SIGNATURE_BYTES])
