"""Where a federation's objects lie in the bucket. Keys are made of ids only, so that no name can reach elsewhere."""

from __future__ import annotations

from gramian.domain.names import check_hex_id
from gramian.ports import MAX_CHUNKS


def prefix(fed_id: str) -> str:
    """What all keys of a federation begin with."""
    return f"grm/{check_hex_id(fed_id, 'fed_id')}/"


def place(fed_id: str) -> str:
    """The object that says that the federation's place exists: a prefix alone cannot."""
    return f"{prefix(fed_id)}place"


def roster(fed_id: str) -> str:
    return f"{prefix(fed_id)}roster"


def head(fed_id: str, peer_id: str) -> str:
    return f"{prefix(fed_id)}heads/{check_hex_id(peer_id, 'peer_id')}"


def blobs(fed_id: str, peer_id: str) -> str:
    """What the keys of a peer's blobs begin with."""
    return f"{prefix(fed_id)}blobs/{check_hex_id(peer_id, 'peer_id')}/"


def chunks(fed_id: str, peer_id: str, blob_id: str, count: int) -> list[str]:
    """The keys of a blob's chunks, in order. Raises ValueError unless 1 <= count <= MAX_CHUNKS."""
    if not 1 <= count <= MAX_CHUNKS:
        raise ValueError(f"a blob has 1 to {MAX_CHUNKS} chunks, not {count}")
    blob = check_hex_id(blob_id, "blob_id")
    return [f"{blobs(fed_id, peer_id)}{blob}/{index}" for index in range(count)]


def queue(fed_id: str, peer_id: str) -> str:
    """The name of the SQS queue in which one member hears nudges."""
    return f"grm-{check_hex_id(fed_id, 'fed_id')}-{check_hex_id(peer_id, 'peer_id')}"
