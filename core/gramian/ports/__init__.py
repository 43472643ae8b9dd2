"""What the use cases need from outside, as small synchronous protocols that plugins implement.

Designed with SQLite *and* DynamoDB, files *and* S3, NATS *and* object stores in mind: conditional writes
on single items, atomic groups of a few items, queries within one partition, no scans, no locks.
`gramian.testing` has a contract suite per protocol.
"""

from __future__ import annotations

from gramian.domain.canonical import Data
from gramian.ports.files import (
    Arrived,
    BlobInfo,
    BlobStore,
    Ticket,
    UploadStore,
)
from gramian.ports.items import (
    ABSENT,
    ANY,
    MAX_GROUP_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTITION_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    Check,
    Delete,
    Item,
    Put,
    StateStore,
    TokenStore,
    Write,
)
from gramian.ports.running import (
    Compute,
    Identity,
    JobRunner,
    ResidentScheduler,
    Scheduler,
)
from gramian.ports.transport import (
    MAX_CHUNKS,
    MAX_CUT_PEERS,
    Chunk,
    Cut,
    Entry,
    Inventory,
    Limits,
    Link,
    MemberLogins,
    PeerRoom,
    Traffic,
    Transport,
)

__all__ = [
    "ABSENT",
    "ANY",
    "MAX_CHUNKS",
    "MAX_CUT_PEERS",
    "MAX_GROUP_BYTES",
    "MAX_KEY_BYTES",
    "MAX_PARTITION_BYTES",
    "MAX_VALUE_BYTES",
    "MAX_WRITES",
    "Arrived",
    "BlobInfo",
    "BlobStore",
    "Check",
    "Chunk",
    "Compute",
    "Cut",
    "Data",
    "Delete",
    "Entry",
    "Identity",
    "Inventory",
    "Item",
    "JobRunner",
    "Limits",
    "Link",
    "MemberLogins",
    "PeerRoom",
    "Put",
    "ResidentScheduler",
    "Scheduler",
    "StateStore",
    "Ticket",
    "TokenStore",
    "Traffic",
    "Transport",
    "UploadStore",
    "Write",
]
