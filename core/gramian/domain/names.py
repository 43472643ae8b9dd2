"""Ids and attribute names: what may be stored, shown, put into a path and compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from gramian.errors import InvalidRequest

MAX_ATTRIBUTES = 10_000
MAX_NAME_CHARS = 256

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}")
_HEX_ID = re.compile(r"[0-9a-f]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_id(kind: str, text: str) -> str:
    """Return `text` if it can be an id. `kind` (cid, pid, modelid) names it in the text of InvalidRequest."""
    if _ID.fullmatch(text) is None:
        raise InvalidRequest(
            f"{kind} must be 1 to 128 of the characters A-Z a-z 0-9 _ . @ + - and start with a letter, digit or _"
        )
    return text


def check_hex_id(text: str, what: str) -> str:
    """Return an id of the protocol (`fed_id`, `peer_id`, `blob_id`): what transports put into paths and subjects.

    Raises ValueError, for only a programming mistake brings another here, unless it is 1 to 64 lower-case hex digits.
    """
    if not _HEX_ID.fullmatch(text):
        raise ValueError(f"{what} must be 1 to 64 lower-case hex digits")
    return text


def attribute_name(text: str) -> str:
    """Return an attribute name in Unicode form NFC, so that equal looking names are equal everywhere."""
    if not text:
        raise InvalidRequest("an attribute name is empty")
    # Checked before and after: normalising costs more than linear time, and may lengthen.
    if len(text) > MAX_NAME_CHARS or len(name := unicodedata.normalize("NFC", text)) > MAX_NAME_CHARS:
        raise InvalidRequest(f"attribute name {text[:20]!r}... is longer than {MAX_NAME_CHARS} characters")
    if _CONTROL.search(name):
        raise InvalidRequest(f"attribute name {name[:40]!r} holds a control character")
    return name


def check_attribute_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in NFC. Raises InvalidRequest unless there are 1 to MAX_ATTRIBUTES, all different after that."""
    if not 1 <= len(names) <= MAX_ATTRIBUTES:
        raise InvalidRequest(f"there must be 1 to {MAX_ATTRIBUTES} attributes, got {len(names)}")
    normal = tuple(map(attribute_name, names))
    seen: set[str] = set()
    for name in normal:
        if name in seen:
            raise InvalidRequest(f"attribute name {name!r} appears twice")
        seen.add(name)
    return normal
