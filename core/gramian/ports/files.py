"""Large bytes: immutable blobs by their digest, and uploads on their way into a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol

import msgspec

from gramian.domain.canonical import Data


class BlobInfo(msgspec.Struct, frozen=True):
    """One stored blob. `modified_at`: unix seconds."""

    digest: str
    size_bytes: int
    modified_at: float


class BlobStore(Protocol):
    """Immutable bytes named by their SHA-256 (hex), in spaces (one per project), of any number.

    Every call raises StoreError, in bounded time, if the store is out of order or cannot be reached: never BlobMissing.
    """

    def put(self, space: str, data: Data) -> str:
        """Store durably, all or nothing, and return the digest; storing again refreshes `modified_at`."""
        ...

    def get(self, space: str, digest: str) -> bytes:
        """Return the bytes, verified. Raises BlobMissing, BlobCorrupt."""
        ...

    def read(self, space: str, digest: str, start: int, size: int) -> bytes:
        """Those bytes of a blob, fewer at its end, not verified. Raises BlobMissing.

        For blobs that are too large to be held whole; a ranged GET where a server keeps them. What is inherited from
        here fetches all of it each time."""
        return self.get(space, digest)[start : start + size]

    def delete(self, space: str, digest: str) -> None:
        """Remove; absent is fine."""
        ...

    def list(self, space: str) -> Iterator[BlobInfo]: ...

    def clear(self, space: str) -> None:
        """Remove the space with all its blobs; absent is fine."""
        ...

    def close(self) -> None: ...


class Ticket(msgspec.Struct, frozen=True):
    """Leave to PUT one upload. `url` is absolute, or a path of the server that was asked; `headers` are to be sent."""

    url: str
    headers: Mapping[str, str]


class Arrived(msgspec.Struct, frozen=True):
    """An upload that is there. `tag` differs whenever the content does."""

    size_bytes: int
    tag: str


class UploadStore(Protocol):
    """Large files on their way into a project: sent by its user past the REST API, read once, removed.

    `space` is a project's, `name` an upload's: lower-case hex digits. Every call raises StoreError, in bounded time, if
    the store is out of order or cannot be reached.
    """

    def ticket(self, space: str, name: str, *, size_bytes: int, expires_at: int) -> Ticket:
        """Let whoever holds the ticket PUT exactly so many bytes, until `expires_at` (unix seconds)."""
        ...

    def find(self, space: str, name: str) -> Arrived | None:
        """What has arrived, whole; None before."""
        ...

    def open(self, space: str, name: str, tag: str) -> BinaryIO:
        """Read it, from any position on, without holding it in memory. Raises BlobMissing unless it is there under
        that tag; reads raise StoreError if it changes meanwhile."""
        ...

    def delete(self, space: str, name: str) -> None:
        """Remove; absent is fine."""
        ...

    def clear(self, space: str) -> None:
        """Remove all uploads of a space; absent is fine."""
        ...

    def expire(self, before: float) -> None:
        """Remove what arrived before (unix seconds), and what half arrived; nothing where the store does so itself."""
        ...

    def close(self) -> None: ...
