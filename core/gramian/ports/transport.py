"""Where the nodes of a federation meet: a transport opens links; two protocols more are for those that can do more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

Chunk: TypeAlias = bytes | memoryview
MAX_CUT_PEERS = 1_000
"""Most heads in one cut."""
MAX_CHUNKS = 65_536
"""Most chunks of one blob."""


class Entry(msgspec.Struct, frozen=True):
    """A head or roster as it stands in the transport. `revision` is opaque, and another one for other data: what nodes
    write has never stood there before, so a digest of it will do."""

    data: bytes
    revision: str


class Cut(msgspec.Struct, frozen=True):
    """One consistent reading: the roster and the heads of the peers that were asked for (absent ones left out)."""

    roster: Entry | None
    heads: Mapping[str, Entry]


class Traffic(msgspec.Struct, frozen=True):
    """Payload bytes that went over a link so far."""

    sent_bytes: int
    received_bytes: int


class Limits(msgspec.Struct, frozen=True):
    """What a federation may take up in its transport: room for all blobs together, and copies of everything."""

    max_blob_bytes: int
    replicas: int = 1


class Link(Protocol):
    """An open line to one transport, used for one federation at a time. Not shared between threads.

    Every call ends within the options' request timeout (blobs: per chunk of progress) and raises
    TransportUnavailable when it does not. `fed_id`, `peer_id` and `blob_id` are 1 to 64 lower-case hex digits: every
    call raises ValueError for others before it sends anything (`gramian.domain.names.check_hex_id` does so).
    """

    chunk_bytes: int
    """Largest chunk that `put_blob` takes, at least 32 KiB: others refuse blobs in smaller pieces."""

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:
        """Make what the federation needs (idempotent). Raises TransportRefused if the limits are not granted."""
        ...

    def destroy(self, fed_id: str) -> None:
        """Remove all that `create` made and whatever lies there, however much; absent is fine.

        A place that is made again afterwards is empty.
        """
        ...

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        """Read roster and heads at one moment.

        Raises ContentMissing if the federation's place is gone, ValueError for more than MAX_CUT_PEERS peers,
        TransportUnavailable also if what is there changes too quickly to be read.
        """
        ...

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        """Write if the revision is still `expect` (None: nothing there); returns the new one.

        Raises RevisionConflict if it is another one, also where `expect` names a revision and nothing is there;
        ContentMissing if the federation's place is gone.
        """
        ...

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        """As put_roster, for one peer's head. Raises the same."""
        ...

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        """Store all chunks; returns when every one is acknowledged, with a mark for `missing_chunks`.

        Repeating it is fine, half or whole. Raises TransportFull, ContentMissing if the federation's place is gone, and
        ValueError for no chunks or more than MAX_CHUNKS, an empty one, or one above `chunk_bytes`.
        """
        ...

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        """Indexes of the chunks that are not there, without moving them; all where the federation's place is gone.

        With the mark of a `put_blob` as `since`, those of all chunks if somebody wrote to the blob after it.
        """
        ...

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> Sequence[Chunk]:
        """All chunks in order. Raises ContentMissing unless every one is there, and Refused beyond `max_bytes`, of the
        sum: never reads on."""
        ...

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        """Give the blob's room back, also in a full store; absent is fine, and so is a place that is gone.

        From now on `get_blob` raises ContentMissing; `missing_chunks` may need a moment to see it.
        """
        ...

    def nudge(self, fed_id: str, data: bytes) -> None:
        """Tell resident peers, at most once, that something is new."""
        ...

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `on_nudge` (from another thread) for each nudge until the returned function is called.

        `peer_id`: who listens. Of several that listen as the same peer, one at least hears a nudge; a transport
        without nudges calls nobody. What `on_nudge` raises is logged, and the next nudge is heard all the same. The
        returned function may be called again.
        """
        ...

    def traffic(self) -> Traffic: ...

    def close(self) -> None:
        """May be repeated. Calls that come after it raise TransportError."""
        ...


class Transport(Protocol):
    """Opens links. One instance serves a whole process; thread-safe."""

    secret_options: frozenset[str] = frozenset()
    """Keys of options that are never shown, and sealed at rest."""

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Keep and normalise the keys that are this transport's; what it returns it returns again for that.

        Raises InvalidRequest, which names the key and what it may be: for a bad one, for a missing one, and so for no
        options at all.
        """
        ...

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Those of a founder's options that an invitation carries to others, without what is the node's own. With a
        login of its own, if it needs one, a member reaches the same place."""
        ...

    def limits(self, options: Mapping[str, str]) -> Limits:
        """The limits that a founder's options ask for, with room for one chunk at least; the roster tells them to
        everybody."""
        ...

    def open(self, options: Mapping[str, str]) -> Link:
        """Connect. Raises TransportUnavailable or TransportRefused with a text that says why."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class MemberLogins(Protocol):
    """What a transport has besides, if a member can be given a login of its own when it joins, so that eviction can
    cut its line."""

    def member_options(
        self, options: Mapping[str, str], fed_id: str, peer_id: str, given: Sequence[Mapping[str, str]]
    ) -> Mapping[str, str]:
        """With the admin's `options`: those that the member lays over the invitation's (an empty text removes one).

        Empty if the admin hands no logins out. `given`: what other members were given. The answer is kept and never
        asked for again. Raises TransportRefused if there is none left.
        """
        ...

    def awaits_login(self, options: Mapping[str, str]) -> bool:
        """Whether these options, of an invitation, become complete only by what `member_options` answers."""
        ...

    def lock_out(self, options: Mapping[str, str], granted: Mapping[str, str]) -> str:
        """What is left to do, in words for the admin, so that an evicted member reaches the transport no more;
        `granted`: what `member_options` gave it, if anything. No secrets."""
        ...


@runtime_checkable
class Inventory(Protocol):
    """What a transport has besides, if it can list what an account of the service that it runs on holds."""

    def inventory(self, options: Mapping[str, str]) -> Mapping[str, object]:
        """An entity of the contract, as JSON. `options` hold credentials to look with. Raises InvalidRequest,
        TransportError."""
        ...


@runtime_checkable
class PeerRoom(Protocol):
    """What a link has besides, if it can find all that a peer has put: more than what its head shows may be there."""

    def free_peer(self, fed_id: str, peer_id: str) -> None:
        """Give the room of all blobs of a peer back, also in a full store; absent is fine."""
        ...
