"""Another process for the suites: opens a plugin, then does what the lines of its standard input say."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from gramian import plugins
from gramian.errors import ConditionFailed, RevisionConflict
from gramian.ports import ABSENT, BlobStore, Identity, Put, StateStore, TokenStore, Transport
from gramian.settings import Settings


def put_absent(store: StateStore, partition: str, key: str, value: str) -> bool:
    """Whether this process was the first."""
    try:
        store.write(Put(partition, key, value.encode(), ABSENT))
    except ConditionFailed:
        return False
    return True


def count(store: StateStore, partition: str, rounds: int) -> None:
    """Add one, so often, under the version that was read."""
    while rounds:
        item = store.get(partition, "count")
        assert item is not None
        try:
            store.write(Put(partition, "count", b"%d" % (int(item.value) + 1), item.version))
        except ConditionFailed:
            continue
        rounds -= 1


def write_pairs(store: StateStore, partition: str) -> None:
    """Write two equal items for ever."""
    number = 0
    while True:
        value = b"%d" % number * 10_000
        store.write(Put(partition, "first", value), Put(partition, "second", value))
        if number == 0:
            _say("started")
        number += 1


def claim(store: TokenStore, key: str, value: str, now: float, expires_at: float) -> str | None:
    holder = store.claim(key, value.encode(), now=now, expires_at=expires_at)
    return None if holder is None else holder.decode()


def put(store: BlobStore, space: str, size_bytes: int) -> str:
    return store.put(space, os.urandom(size_bytes))


def fill(store: BlobStore, space: str, size_bytes: int) -> None:
    """Put blobs for ever."""
    _say("started")
    while True:
        store.put(space, os.urandom(size_bytes))


def delete(store: BlobStore, space: str, digest: str) -> None:
    store.delete(space, digest)


def put_entry(
    transport: Transport, options: Mapping[str, str], fed_id: str, peer_id: str, data: str, expect: str | None = None
) -> bool:
    """Put a peer's head, or without a peer the roster: whether this process was the first."""
    with closing(transport.open(options)) as link:
        try:
            if peer_id:
                link.put_head(fed_id, peer_id, data.encode(), expect=expect)
            else:
                link.put_roster(fed_id, data.encode(), expect=expect)
        except RevisionConflict:
            return False
    return True


def put_blob(
    transport: Transport, options: Mapping[str, str], fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[str]
) -> None:
    with closing(transport.open(options)) as link:
        link.put_blob(fed_id, peer_id, blob_id, [chunk.encode() for chunk in chunks])


def free_blob(
    transport: Transport, options: Mapping[str, str], fed_id: str, peer_id: str, blob_id: str, count: int
) -> None:
    with closing(transport.open(options)) as link:
        link.free_blob(fed_id, peer_id, blob_id, count)


def nudge(transport: Transport, options: Mapping[str, str], fed_id: str, data: str) -> None:
    with closing(transport.open(options)) as link:
        link.nudge(fed_id, data.encode())


def describe(identity: Identity) -> dict[str, str]:
    """The key only as its digest: it must not stand in a pipe."""
    return {"instance": identity.instance, "key": hashlib.sha256(identity.master_key).hexdigest()}


def alive(identity: Identity, instance: str) -> bool:
    return identity.alive(instance)


_TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task
    for task in (
        put_absent,
        count,
        write_pairs,
        claim,
        put,
        fill,
        delete,
        put_entry,
        put_blob,
        free_blob,
        nudge,
        describe,
        alive,
    )
}


def main(plugin: str) -> None:
    """Serve until the standard input ends."""
    kind, _, name = plugin.partition(".")
    made = plugins.make(kind, name, Settings.from_env(os.environ))
    _say("open")
    for line in sys.stdin:
        told = json.loads(line)
        _say(_TASKS[told["task"]](made, **told["arguments"]))


def _say(result: Any) -> None:
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
