"""What stands in the state store: one struct per kind of item, and typed reading and writing of them.

Partitions: `users`; `projects/<cid>` (one small item per project); `project/<uid>` (everything of one incarnation of a
project: a project that is deleted and made again has another uid); `jobs/<cid>`; `pulses` (the local scheduler's);
`garbage` (uids of deleted projects and when that was, until all of theirs is gone); `foundings` (by federation id,
until a project has its place in the transport).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from gramian.domain import typed
from gramian.domain.protocol.head import HeadState
from gramian.errors import ConditionFailed, Unavailable
from gramian.ports import ABSENT, Put, StateStore

R = TypeVar("R", bound=msgspec.Struct)
UPDATE_ATTEMPTS = 100

# Keys within the partition of a project; those that end in a slash are followed by an id.
ATTRIBUTES, BASE, DELTA, OPERATION, FORGETS = "attributes", "base", "delta/", "operation/", "forgets"
FEDERATION, ROSTER, INVITATION, PUBLICATION, PEER = "federation", "roster", "invitation/", "publication", "peer/"
FEDERATED, MODEL, LEASE, BODY, UPLOAD, TURN = "federated", "model/", "lease", "body/", "upload/", "turn"
TRIE = "trie"


class User(msgspec.Struct, frozen=True):
    """`secret`: the user's key, sealed by the node."""

    secret: str
    created_at: int


class Project(msgspec.Struct, frozen=True):
    """Found by (cid, pid). Times are unix milliseconds. `instance`: the process that keeps an unpersisted project."""

    uid: str
    created_at: int
    federated: bool = False
    persist: bool = True
    instance: str = ""


class Attributes(msgspec.Struct, frozen=True):
    """Names and types (one letter each) in the order in which they were first learned: the order of indexes."""

    names: list[str] = []
    types: str = ""


class Base(msgspec.Struct, frozen=True):
    """The folded part of the local rows. `blob`: its snapshot, empty before the first compaction. `folded`: deltas that
    are in it but may still be listed. `added`, `removed`: rows of units that no published epoch contains.
    `at`: unix milliseconds of the last batch. `doubtful`: attributes that have lost digits by forgetting."""

    blob: str = ""
    rows: int = 0
    folded: list[str] = []
    added: int = 0
    removed: int = 0
    at: int = 0
    doubtful: list[str] = []


class Delta(msgspec.Struct, frozen=True):
    """Batches learned at the same moment (rows > 0), mostly one, or one forgotten (rows < 0). Its snapshot: small ones
    are `data`, others in `blob`.

    `fingerprint` tells equal batches, so that forgetting a batch that is still listed drops it without a rounding."""

    blob: str
    rows: int
    fingerprint: str
    at: int
    data: bytes = b""


class Operation(msgspec.Struct, frozen=True):
    """The mark of an idempotent learn or forget: its repetition changes nothing."""

    at: int


class Upload(msgspec.Struct, frozen=True):
    """A file that is to come, or is being learned. `tag`: the content that is being learned; `columns`: name and type
    of what is read of it, `ignored` the rest. `offset`, `rows`: how far it is read, with the statistics of that in
    `blob`. `learned`: its rows count. Times: unix seconds."""

    format: str
    size_bytes: int
    created_at: int
    expires_at: int
    tag: str = ""
    columns: list[tuple[str, str]] = []
    ignored: list[str] = []
    offset: int = 0
    rows: int = 0
    blob: str = ""
    learned: bool = False


class Model(msgspec.Struct, frozen=True):
    """A built model; its parameters are in `blob`. `source`: `federated` or `local`."""

    algorithm: str
    blob: str
    created_at: int
    build_ms: int
    source: str
    count: int = 1


class Federation(msgspec.Struct, frozen=True):
    """A node's membership. `secrets`: Secrets, sealed. `key_salt`: what its peer keys are derived with (hex).

    `checkpoint`: epochs below which no head is accepted. `options`: those of `transport` that are not secret.
    `schedule`: the one that the scheduler was told, empty while not pulsing. `left`: it takes no part any more.
    `push`: it tells others at once what it published, and listens to them. `explore`: others may explore its own
    summary."""

    fed_id: str
    fed_name: str
    peer_id: str
    key_salt: str
    local_type: str
    options: dict[str, str]
    secrets: str
    checkpoint: dict[str, int] = {}
    pulsing: bool = False
    schedule: str = ""
    left: bool = False
    push: bool = True
    transport: str = "nats"
    explore: bool = True


class Founding(msgspec.Struct, frozen=True):
    """A federation whose place in the transport is being made by the process `instance`, empty if that gave up.
    `secrets`: Secrets with all options of the transport, sealed."""

    secrets: str
    instance: str
    transport: str = "nats"


class Secrets(msgspec.Struct, frozen=True):
    """`options`: the credentials among the transport's options."""

    options: dict[str, str] = {}


class InvitationRecord(msgspec.Struct, frozen=True):
    """At the admin. `key`: the redemption's master key, sealed. `used_by`: the key (hex) that redeemed it.
    `replaces`: a lost member whose place the new one takes."""

    tid: str
    key: str
    expires_at: int
    created_at: int
    used_by: str = ""
    used_at: int = 0
    replaces: str = ""


class StaleBlob(msgspec.Struct, frozen=True):
    """A blob in the transport that nothing points to any more; freed at once and once more after a lease's time, in
    case that a frozen pulse was still writing it. `freed_at`: unix seconds, 0 before."""

    blob_id: str
    chunks: int
    freed_at: int = 0


class Publication(msgspec.Struct, frozen=True):
    """What this node has decided to publish; making it so in the transport can be repeated.

    `source`: the base blob it shows. `stored`: the bytes as published, `snapshot`: the clear bytes, both in the blob
    store. `cek`: content key, sealed. `confirmed`: its head was seen acknowledged under `epoch`. `placed`: the
    transport's mark of when this node last put the bytes there, empty before."""

    epoch: int
    source: str
    blob_id: str
    stored: str
    snapshot: str
    rows: int
    size: int
    chunks: int
    chunk_size: int
    content_digest: str
    schema_digest: str
    schema_hash: str
    gen: int
    cek: str = ""
    state: HeadState = "data"
    confirmed: bool = False
    placed: str = ""
    stale: list[StaleBlob] = []


class Accepted(msgspec.Struct, frozen=True):
    """A member's last good snapshot, `blob` in the blob store (empty for one that left). `explore`: its word whether
    others may explore it."""

    epoch: int
    content_digest: str
    blob_sha: str
    blob: str
    schema_digest: str
    rows: int
    at: int
    state: str = "data"
    explore: bool = True


class Federated(msgspec.Struct, frozen=True):
    """The federated statistics: `digest` of `blob`, a pure function of what `inputs` commits to."""

    inputs: str
    digest: str
    blob: str
    rows: int
    roster_v: int
    at: int


class Trie(msgspec.Struct, frozen=True):
    """Inner nodes of the last merge: the digest of what went into one, and the blob of its value."""

    nodes: dict[str, str] = {}


class Outage(msgspec.Struct, frozen=True):
    """Why pulses fail, and since when (unix milliseconds)."""

    reason: str
    since: int


class Lease(msgspec.Struct, frozen=True):
    """Who pulses. `until`: unix seconds. `fence` grows per holder. `outage`: why the last pulse failed, if any."""

    owner: str
    until: float
    fence: int
    outage: Outage | None = None


class Stored(msgspec.Struct, Generic[R], frozen=True):
    """A record with the version to expect when replacing it; `version` is ABSENT for a default."""

    record: R
    version: str


def encode(record: msgspec.Struct) -> bytes:
    return msgspec.json.encode(record)


def put(partition: str, key: str, record: msgspec.Struct, expect: str, expires_at: int | None = None) -> Put:
    return Put(partition, key, encode(record), expect, expires_at)


def load(state: StateStore, partition: str, key: str, kind: type[R]) -> Stored[R] | None:
    item = state.get(partition, key)
    return None if item is None else Stored(typed.decode(item.value, kind), item.version)


def load_or(state: StateStore, partition: str, key: str, default: R) -> Stored[R]:
    return load(state, partition, key, type(default)) or Stored(default, ABSENT)


def listed(state: StateStore, partition: str, prefix: str, kind: type[R]) -> dict[str, Stored[R]]:
    """All records below a prefix, keyed by what follows it."""
    return {
        key.removeprefix(prefix): Stored(typed.decode(item.value, kind), item.version)
        for key, item in state.query(partition, prefix)
    }


def revise(state: StateStore, partition: str, key: str, kind: type[R], change: Callable[[R], R]) -> R | None:
    """As `update`, for a record that exists; None, and nothing is written, if it does not."""
    return _changed(state, partition, key, kind, None, change)


def update(state: StateStore, partition: str, key: str, default: R, change: Callable[[R], R]) -> R:
    """Read, change, write if nobody else wrote; again until it holds. Raises Unavailable if that never happens."""
    record = _changed(state, partition, key, type(default), default, change)
    assert record is not None, "there is a default"
    return record


def _changed(
    state: StateStore, partition: str, key: str, kind: type[R], default: R | None, change: Callable[[R], R]
) -> R | None:
    for _ in range(UPDATE_ATTEMPTS):
        stored = load(state, partition, key, kind)
        if stored is not None:
            before = stored
        elif default is not None:
            before = Stored(default, ABSENT)
        else:
            return None
        record = change(before.record)
        if before is stored and record == stored.record:
            return record
        try:
            state.write(put(partition, key, record, before.version))
        except ConditionFailed:
            continue
        return record
    raise Unavailable("too many writers at once; try again")
