"""What the use cases need from outside, as small synchronous protocols that plugins implement.

Designed with SQLite *and* DynamoDB, files *and* S3, NATS *and* object stores in mind: conditional writes
on single items, atomic groups of a few items, queries within one partition, no scans, no locks.
`gramian.testing` has a contract suite per protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeAlias, runtime_checkable

from gramian.domain.canonical import Data as Data

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array, Moments
    from gramian.domain.statistics.schema import Schema

Chunk: TypeAlias = bytes | memoryview
ANY = "*"
"""Write whatever is there."""
ABSENT = ""
"""Write only if nothing (or only something expired) is there."""
MAX_VALUE_BYTES = 350_000
"""Largest value of an item: DynamoDB allows 400 KB with keys and bookkeeping."""
MAX_WRITES = 25
"""Most writes in one atomic group."""
MAX_GROUP_BYTES = 2_800_000
"""Most that the values of one atomic group hold together: DynamoDB allows 4 MB, perhaps of base64, with all names."""
MAX_PARTITION_BYTES = 2048
MAX_KEY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Item:
    """A stored value. `version` is opaque, differs after every write and never comes back."""

    value: bytes
    version: str


@dataclass(frozen=True, slots=True)
class Put:
    """Store `value`. `expect`: ANY, ABSENT or the version read before. `expires_at`: unix seconds."""

    partition: str
    key: str
    value: bytes
    expect: str = ANY
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item; removing an absent one is fine unless `expect` is a version."""

    partition: str
    key: str
    expect: str = ANY


@dataclass(frozen=True, slots=True)
class Check:
    """Hold the group back unless the item is in the state `expect` (ABSENT or a version)."""

    partition: str
    key: str
    expect: str


Write: TypeAlias = Put | Delete | Check


class StateStore(Protocol):
    """Items under (partition, key); reads are strongly consistent; expired items are never seen."""

    def get(self, partition: str, key: str) -> Item | None:
        """Return the item, or None if it is absent or expired."""
        ...

    def write(self, *writes: Write) -> None:
        """Apply all writes or none. Each (partition, key) at most once, at most MAX_WRITES.

        Raises ConditionFailed if any expectation does not hold, StoreError if the store is out of order (full,
        corrupt, unreachable), ValueError for what `gramian.writes.validate` refuses: values above MAX_VALUE_BYTES,
        or MAX_GROUP_BYTES together, a partition or key that is empty or too long, a Check with ANY.
        """
        ...

    def query(
        self, partition: str, prefix: str = "", *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, Item]]:
        """Items of one partition whose key starts with `prefix`, by key (UTF-8 bytes), strictly past `after`.

        With `reverse` the order is descending, and past `after` means below it.
        """
        ...

    def close(self) -> None: ...


class TokenStore(Protocol):
    """Keys that are claimed once until they expire: seen signatures, idempotency keys."""

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        """Take `key`: None if this call won it, else the value of the live holder. Exactly one caller wins."""
        ...

    def replace(self, key: str, value: bytes, *, expect: bytes, now: float, expires_at: float) -> bool:
        """Swap the holder's value if it is live and still equals `expect`."""
        ...

    def release(self, key: str, *, expect: bytes) -> bool:
        """Give up a claim whose value still equals `expect`."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One stored blob. `modified_at`: unix seconds."""

    digest: str
    size_bytes: int
    modified_at: float


class BlobStore(Protocol):
    """Immutable bytes named by their SHA-256 (hex), in spaces (one per project)."""

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


MAX_CUT_PEERS = 1_000
"""Most heads in one cut."""
MAX_CHUNKS = 65_536
"""Most chunks of one blob."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to PUT one upload. `url` is absolute, or a path of the server that was asked; `headers` are to be sent."""

    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Arrived:
    """An upload that is there. `tag` differs whenever the content does."""

    size_bytes: int
    tag: str


class UploadStore(Protocol):
    """Large files on their way into a project: sent by its user past the REST API, read once, removed.

    `space` is a project's, `name` an upload's: lower-case hex digits.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """A head or roster as it stands in the transport. `revision` is opaque."""

    data: bytes
    revision: str


@dataclass(frozen=True, slots=True)
class Cut:
    """One consistent reading: the roster and the heads of the peers that were asked for (absent ones left out)."""

    roster: Entry | None
    heads: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Payload bytes that went over a link so far."""

    sent_bytes: int
    received_bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a federation may take up in its transport: room for all blobs together, and copies of everything."""

    max_blob_bytes: int
    replicas: int = 1


class Link(Protocol):
    """An open line to one transport, used for one federation at a time. Not shared between threads.

    Every call ends within the options' request timeout (blobs: per chunk of progress) and raises
    TransportUnavailable when it does not. `fed_id`, `peer_id` and `blob_id` are lower-case hex.
    """

    chunk_bytes: int
    """Largest chunk that `put_blob` takes, at least 32 KiB: others refuse blobs in smaller pieces."""

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:
        """Make what the federation needs (idempotent). Raises TransportRefused if the limits are not granted."""
        ...

    def destroy(self, fed_id: str) -> None:
        """Remove all that `create` made; absent is fine."""
        ...

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        """Read roster and heads at one moment. Raises ContentMissing if the federation's place is gone."""
        ...

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        """Write if the revision is still `expect` (None: nothing there); returns the new one. RevisionConflict."""
        ...

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        """As put_roster, for one peer's head."""
        ...

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        """Store all chunks; returns when every one is acknowledged, with a mark for `missing_chunks`.

        Repeating it is fine. Raises TransportFull.
        """
        ...

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        """Indexes of the chunks that are not there, without moving them.

        With the mark of a `put_blob` as `since`, those of all chunks if somebody wrote to the blob after it.
        """
        ...

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> Sequence[Chunk]:
        """All chunks in order. Raises ContentMissing, and Refused beyond `max_bytes`: never reads on."""
        ...

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        """Give the blob's room back, also in a full store; absent is fine."""
        ...

    def nudge(self, fed_id: str, data: bytes) -> None:
        """Tell resident peers, at most once, that something is new."""
        ...

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        """Call `on_nudge` (from another thread) for each nudge until the returned function is called.

        `peer_id`: who listens. Of several that listen as the same peer, one at least hears a nudge; a transport
        without nudges calls nobody.
        """
        ...

    def traffic(self) -> Traffic: ...

    def close(self) -> None: ...


class Transport(Protocol):
    """Opens links. One instance serves a whole process; thread-safe."""

    secret_options: frozenset[str] = frozenset()
    """Keys of options that are never shown, and sealed at rest."""

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Keep and normalise the keys that are this transport's; InvalidRequest names a bad or missing one."""
        ...

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Those of a founder's options that an invitation carries to others, without what is the node's own."""
        ...

    def limits(self, options: Mapping[str, str]) -> Limits:
        """The limits that a founder's options ask for; the roster tells them to everybody."""
        ...

    def open(self, options: Mapping[str, str]) -> Link:
        """Connect. Raises TransportUnavailable or TransportRefused with a text that says why."""
        ...

    def close(self) -> None: ...


class Identity(Protocol):
    """Who this process is: a part of the node that holds `master_key` (32 bytes), with a life of its own.

    What processes leave behind for a while (jobs, leases, projects that are not kept) carries the `instance` of its
    owner, so that others can tell when it is gone.
    """

    @property
    def master_key(self) -> bytes: ...

    @property
    def instance(self) -> str:
        """This process; without a slash."""
        ...

    def alive(self, instance: str) -> bool:
        """Whether the process that left this mark may still run."""
        ...

    def close(self) -> None:
        """Be seen as gone."""
        ...


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


class Scheduler(Protocol):
    """Runs due pulses: one entry per pulsing project, under a stable name."""

    def set(self, cid: str, pid: str, schedule: str) -> None:
        """Pulse (cid, pid) on `schedule` (as `gramian.domain.schedule`); replaces an older entry."""
        ...

    def soon(self, cid: str, pid: str) -> None:
        """Pulse at the next opportunity, once, if there is an entry; the schedule stays."""
        ...

    def remove(self, cid: str, pid: str) -> None: ...


@runtime_checkable
class ResidentScheduler(Protocol):
    """What a scheduler has besides, if it runs the pulses itself, in a process that stays (`gramian serve`)."""

    def start(self, run_pulse: Callable[[str, str], None]) -> None:
        """From now on call `run_pulse(cid, pid)`, from other threads, when a pulse is due; what it raises is logged."""
        ...

    def stop(self) -> None:
        """Start no more pulses, and wait a while for those that run."""
        ...


class JobRunner(Protocol):
    """Has submitted jobs done later, here or elsewhere. What they are about stands in their records."""

    patience_s: float = 0.0
    """How long a job may wait for a process to take it up, or for `submit` to name it; 0: jobs run in this process, and
    end with it."""

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        """Run `execute` in this process, or have `gramian.usecases.jobs.execute(node, cid, number)` called in another.

        Returns the runner's own name of the job, empty if it has none. Raises Unavailable if it takes no more jobs.
        """
        ...

    def failure(self, handle: str) -> str:  # noqa: ARG002 - a default for runners that know nothing more
        """Why the job that `submit` named so will never end well, as far as the runner knows; empty if it may."""
        return ""

    def close(self) -> None: ...


class Compute(Protocol):
    """Turns rows into sufficient statistics; merging stays on the host, so that bits do not depend on hardware."""

    def accumulate(self, rows: Array, schema: Schema) -> Moments:
        """Moments of `rows`, (n, p) float64 in the schema's order, NaN where missing. Raises ValueError naming a
        column whose values cannot be used."""
        ...
