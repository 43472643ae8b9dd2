"""JSON to typed values, from any number of threads.

msgspec works out how to decode a class when it first meets it, and a second thread that decodes the same class at that
moment crashes the process (seen with 0.22). Here the first time is one thread's alone.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_lock = threading.Lock()


def decode(data: bytes | str, kind: type[T]) -> T:
    """Raises msgspec.MsgspecError, RecursionError, UnicodeDecodeError as `msgspec.json.decode` does."""
    value: T = _decoder(kind).decode(data)
    return value


def convert(value: object, kind: type[T]) -> T:
    """As `msgspec.convert`, which decoded JSON is turned into a class with."""
    _decoder(kind)
    return msgspec.convert(value, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    found = _decoders.get(kind)
    if found is None:
        with _lock:
            found = _decoders.setdefault(kind, msgspec.json.Decoder(kind))
    return found
