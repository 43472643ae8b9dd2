"""Small items that are written under conditions: the state store, and tokens that are claimed once."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import msgspec

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


class Item(msgspec.Struct, frozen=True):
    """A stored value. `version` is opaque, differs after every write and never comes back."""

    value: bytes
    version: str


class Put(msgspec.Struct, frozen=True):
    """Store `value`. `expect`: ANY, ABSENT or the version read before. `expires_at`: unix seconds."""

    partition: str
    key: str
    value: bytes
    expect: str = ANY
    expires_at: int | None = None


class Delete(msgspec.Struct, frozen=True):
    """Remove an item; removing an absent one is fine unless `expect` is a version."""

    partition: str
    key: str
    expect: str = ANY


class Check(msgspec.Struct, frozen=True):
    """Hold the group back unless the item is in the state `expect` (ABSENT or a version)."""

    partition: str
    key: str
    expect: str


Write: TypeAlias = Put | Delete | Check


class StateStore(Protocol):
    """Items under (partition, key); reads are strongly consistent; expired items are never seen.

    Every call raises StoreError, in bounded time, if the store is out of order or cannot be reached.
    """

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
    """Keys that are claimed once until they expire: seen signatures, idempotency keys.

    Every call raises StoreError, in bounded time, if the store is out of order or cannot be reached.
    """

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
