"""Stream names and subjects of a federation. They carry ids only, so no name can inject a token."""

from __future__ import annotations

import re

from gramian.domain.names import check_hex_id
from gramian.ports import MAX_CHUNKS


def head_stream(fed_id: str) -> str:
    """The stream of the roster and the heads."""
    return f"GRM_{check_hex_id(fed_id, 'fed_id')}_H"


def blob_stream(fed_id: str) -> str:
    """The stream of the blobs' chunks."""
    return f"GRM_{check_hex_id(fed_id, 'fed_id')}_B"


def roster_subject(fed_id: str) -> str:
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.r"


def head_subject(fed_id: str, peer_id: str) -> str:
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.h.{check_hex_id(peer_id, 'peer_id')}"


def head_subjects(fed_id: str) -> str:
    """Matches the heads of all peers."""
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.h.*"


def blob_subjects(fed_id: str) -> str:
    """Matches the chunks of all blobs."""
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.b.*.*.*"


def peer_blob_subjects(fed_id: str, peer_id: str) -> str:
    """Matches the chunks of one peer's blobs."""
    return f"{peer_prefix(fed_id, peer_id)}*.*"


def peer_prefix(fed_id: str, peer_id: str) -> str:
    """What the subjects of a peer's blobs share; the blob's id and an index follow."""
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.b.{check_hex_id(peer_id, 'peer_id')}."


def nudge_subject(fed_id: str) -> str:
    return f"grm.{check_hex_id(fed_id, 'fed_id')}.n"


def blob_prefix(fed_id: str, peer_id: str, blob_id: str) -> str:
    """What the subjects of a blob's chunks share; an index follows."""
    return f"{peer_prefix(fed_id, peer_id)}{check_hex_id(blob_id, 'blob_id')}."


def chunk_subjects(fed_id: str, peer_id: str, blob_id: str, count: int) -> list[str]:
    """The subjects of all chunks, in order. Raises ValueError unless 1 <= count <= MAX_CHUNKS."""
    if not 1 <= count <= MAX_CHUNKS:
        raise ValueError(f"a blob has 1 to {MAX_CHUNKS} chunks, not {count}")
    prefix = blob_prefix(fed_id, peer_id, blob_id)
    return [f"{prefix}{index}" for index in range(count)]


def inbox_prefix(user: str | None) -> str:
    """Where answers arrive: under the user's name if it can be part of a subject, so that it can be its alone."""
    return f"_INBOX.{user}" if user is not None and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", user) else "_INBOX"
