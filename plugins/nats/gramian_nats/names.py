"""Stream names and subjects of a federation. They carry ids only, so no name can inject a token."""

from __future__ import annotations

import re

MAX_PEERS = 1_000
"""Most heads in one cut."""
MAX_CHUNKS = 65_536
"""Most chunks of one blob."""

_HEX = re.compile(r"[0-9a-f]{1,64}")


def checked_id(text: str, what: str) -> str:
    """Return `text`. Raises ValueError unless it is 1 to 64 lower-case hex digits."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"{what} must be 1 to 64 lower-case hex digits")
    return text


def head_stream(fed_id: str) -> str:
    """The stream of the roster and the heads."""
    return f"GRM_{checked_id(fed_id, 'fed_id')}_H"


def blob_stream(fed_id: str) -> str:
    """The stream of the blobs' chunks."""
    return f"GRM_{checked_id(fed_id, 'fed_id')}_B"


def roster_subject(fed_id: str) -> str:
    return f"grm.{checked_id(fed_id, 'fed_id')}.r"


def head_subject(fed_id: str, peer_id: str) -> str:
    return f"grm.{checked_id(fed_id, 'fed_id')}.h.{checked_id(peer_id, 'peer_id')}"


def head_subjects(fed_id: str) -> str:
    """Matches the heads of all peers."""
    return f"grm.{checked_id(fed_id, 'fed_id')}.h.*"


def blob_subjects(fed_id: str) -> str:
    """Matches the chunks of all blobs."""
    return f"grm.{checked_id(fed_id, 'fed_id')}.b.*.*.*"


def peer_blob_subjects(fed_id: str, peer_id: str) -> str:
    """Matches the chunks of one peer's blobs."""
    return f"grm.{checked_id(fed_id, 'fed_id')}.b.{checked_id(peer_id, 'peer_id')}.*.*"


def nudge_subject(fed_id: str) -> str:
    return f"grm.{checked_id(fed_id, 'fed_id')}.n"


def blob_prefix(fed_id: str, peer_id: str, blob_id: str) -> str:
    """What the subjects of a blob's chunks share; an index follows."""
    owner = f"{checked_id(fed_id, 'fed_id')}.b.{checked_id(peer_id, 'peer_id')}"
    return f"grm.{owner}.{checked_id(blob_id, 'blob_id')}."


def chunk_subjects(fed_id: str, peer_id: str, blob_id: str, count: int) -> list[str]:
    """The subjects of all chunks, in order. Raises ValueError unless 1 <= count <= MAX_CHUNKS."""
    if not 1 <= count <= MAX_CHUNKS:
        raise ValueError(f"a blob has 1 to {MAX_CHUNKS} chunks, not {count}")
    prefix = blob_prefix(fed_id, peer_id, blob_id)
    return [f"{prefix}{index}" for index in range(count)]
