"""What federations leave in the memory of a process: named spaces, each with a place per federation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gramian.errors import ContentMissing, RevisionConflict, TransportFull
from gramian.ports import Entry

ROSTER = "roster"
Chunk = tuple[str, str, int]
"""(peer_id, blob_id, index)."""


@dataclass
class Place:
    """One federation. `max_blob_bytes` bounds all chunks together."""

    max_blob_bytes: int
    entries: dict[str, Entry] = field(default_factory=dict)
    chunks: dict[Chunk, tuple[bytes, int]] = field(default_factory=dict)
    """Data, and the number of the write."""


class Space:
    """Federations of the nodes that name the same space. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Place] = {}
        self._listeners: dict[str, list[Callable[[bytes], None]]] = {}
        self._writes = 0

    def create(self, fed_id: str, max_blob_bytes: int) -> None:
        with self._lock:
            self._places.setdefault(fed_id, Place(max_blob_bytes))

    def destroy(self, fed_id: str) -> None:
        with self._lock:
            self._places.pop(fed_id, None)

    def entries(self, fed_id: str) -> dict[str, Entry]:
        """All of them, at one moment. Raises ContentMissing."""
        with self._lock:
            return dict(self._place(fed_id).entries)

    def write(self, fed_id: str, key: str, data: bytes, expect: str | None) -> str:
        """Raises RevisionConflict, ContentMissing."""
        with self._lock:
            entries = self._place(fed_id).entries
            found = entries.get(key)
            if (found.revision if found else None) != expect:
                raise RevisionConflict("there is another revision by now")
            entries[key] = Entry(data, str(self._next()))
            return entries[key].revision

    def put_chunk(self, fed_id: str, chunk: Chunk, data: bytes) -> int:
        """The number of the write. Raises TransportFull, ContentMissing."""
        with self._lock:
            place = self._place(fed_id)
            others = sum(len(kept) for other, (kept, _) in place.chunks.items() if other != chunk)
            if others + len(data) > place.max_blob_bytes:
                raise TransportFull("there is no room for the blob: raise memory_max_bytes")
            place.chunks[chunk] = (data, self._next())
            return self._writes

    def chunks(self, fed_id: str, peer_id: str, blob_id: str) -> dict[int, tuple[bytes, int]]:
        """(data, number of the write) by index, of those that are there."""
        with self._lock:
            place = self._places.get(fed_id)
            kept = place.chunks.items() if place else ()
            return {chunk[2]: found for chunk, found in kept if chunk[:2] == (peer_id, blob_id)}

    def free(self, fed_id: str, *of: str) -> None:
        """The chunks of a peer; of one of its blobs, if that is named too."""
        with self._lock:
            place = self._places.get(fed_id)
            if place is not None:
                for chunk in [chunk for chunk in place.chunks if chunk[: len(of)] == of]:
                    del place.chunks[chunk]

    def require(self, fed_id: str) -> None:
        """Raises ContentMissing."""
        with self._lock:
            self._place(fed_id)

    def nudge(self, fed_id: str, data: bytes) -> None:
        with self._lock:
            listeners = list(self._listeners.get(fed_id, ()))
        for listener in listeners:
            listener(data)

    def listen(self, fed_id: str, listener: Callable[[bytes], None]) -> None:
        """Have `listener` called, which must not block."""
        with self._lock:
            self._listeners.setdefault(fed_id, []).append(listener)

    def unlisten(self, fed_id: str, listener: Callable[[bytes], None]) -> None:
        with self._lock:
            remaining = [each for each in self._listeners.get(fed_id, ()) if each is not listener]
            self._listeners[fed_id] = remaining

    def _place(self, fed_id: str) -> Place:
        place = self._places.get(fed_id)
        if place is None:
            raise ContentMissing("the federation has no place in this process")
        return place

    def _next(self) -> int:
        self._writes += 1
        return self._writes


_SPACES: dict[str, Space] = {}


def named(name: str) -> Space:
    """The space of that name, which lives as long as the process."""
    return _SPACES.setdefault(name, Space())
