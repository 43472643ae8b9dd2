"""What every state store refuses to write, so that what would fail with one fails with all."""

from __future__ import annotations

from collections.abc import Sequence

from gramian.ports import (
    ANY,
    MAX_GROUP_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTITION_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    Check,
    Put,
    Write,
)


def validate(writes: Sequence[Write]) -> None:
    """Raise ValueError for a group that no state store takes."""
    if len(writes) > MAX_WRITES:
        raise ValueError(f"{len(writes)} writes in one group: at most {MAX_WRITES} are allowed")
    if len({(write.partition, write.key) for write in writes}) < len(writes):
        raise ValueError("the same item appears twice in one group of writes")
    for write in writes:
        _validate_name("partition", write.partition, MAX_PARTITION_BYTES)
        _validate_name("key", write.key, MAX_KEY_BYTES)
        if isinstance(write, Check) and write.expect == ANY:
            raise ValueError("a Check expects ABSENT or a version")
    values = [write.value for write in writes if isinstance(write, Put)]
    for value in values:
        validate_value(value)
    if (size := sum(map(len, values))) > MAX_GROUP_BYTES:
        raise ValueError(f"{size} bytes in one group of writes: at most {MAX_GROUP_BYTES} are allowed")


def validate_value(value: bytes) -> None:
    """Raise ValueError for a value that is too large for an item or a claim."""
    if len(value) > MAX_VALUE_BYTES:
        raise ValueError(f"a value of {len(value)} bytes: at most {MAX_VALUE_BYTES} are allowed")


def _validate_name(what: str, name: str, most: int) -> None:
    if not 1 <= len(name.encode()) <= most:
        raise ValueError(f"a {what} of {len(name.encode())} bytes: 1 to {most} are allowed")
