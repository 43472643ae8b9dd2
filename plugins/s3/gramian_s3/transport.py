"""The S3 transport: `gramian.ports.Transport` and `Link` over the objects of one bucket. Imports no boto3."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from gramian.domain.names import check_hex_id
from gramian.errors import ContentMissing, RevisionConflict, TransportFull, TransportUnavailable
from gramian.ports import MAX_CUT_PEERS, Cut, Entry, Limits, Traffic
from gramian_s3 import keys
from gramian_s3.calls import Calls, Pace
from gramian_s3.clients import Clients
from gramian_s3.options import SECRET_OPTIONS, S3Options, parse_options

if TYPE_CHECKING:
    from gramian_s3.bucket import Bucket
    from gramian_s3.nudges import Listener

CHUNK_BYTES = 8 * 2**20
MAX_HEAD_BYTES = 64 * 2**10
MAX_ROSTER_BYTES = 2**20
CUT_ATTEMPTS = 5
STOP_S = 5.0
MAX_SWEEPS = 100
"""Most listings, of 1,000 objects each, that one removal takes: somebody may put more all the time."""
_PLACE = b'{"gramian":1}'


class S3Transport:
    """Opens links to buckets. Thread-safe; `role_buckets` and `role_topics` (ARNs) are those that this node's own
    credentials may be used for."""

    secret_options = SECRET_OPTIONS

    def __init__(self, role_buckets: Collection[str] = (), role_topics: Collection[str] = ()) -> None:
        self._parsed = partial(parse_options, role_buckets=role_buckets, role_topics=role_topics)
        self._clients = Clients()
        self._lock = threading.Lock()
        self._checked: set[S3Options] = set()
        self._listeners: set[Listener] = set()
        self._is_closed = False

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """The `aws_` and `s3_` keys, normalised. Raises InvalidRequest naming a bad or missing one and the remedy."""
        return self._parsed(options).as_mapping()

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """All but the access key: every member brings its own."""
        return self._parsed(options).shared()

    def limits(self, options: Mapping[str, str]) -> Limits:
        """S3 has no quota: the limit is what members take from one another, and put themselves."""
        return Limits(max_blob_bytes=self._parsed(options).max_blob_bytes)

    def open(self, options: Mapping[str, str]) -> S3Link:
        """Look whether bucket and credentials are good, once per process; requests come later.

        Raises InvalidRequest, TransportUnavailable, TransportRefused.
        """
        if self._is_closed:
            raise TransportUnavailable("the S3 transport of this process is closed")
        checked = self._parsed(options)
        link = S3Link(self._clients, checked, self._listeners)
        with self._lock:
            is_new = checked not in self._checked
        if is_new:
            try:
                link.check()
            except BaseException:
                link.close()
                raise
            with self._lock:
                self._checked.add(checked)
        return link

    def inventory(self, options: Mapping[str, str]) -> Mapping[str, object]:
        """The contract's AwsInfo. Raises InvalidRequest, TransportError."""
        from gramian_s3.account import inventory

        return inventory(options)

    def close(self) -> None:
        """End all listening and close all connections; no new links can be opened."""
        self._is_closed = True
        _stop(self._listeners)
        self._clients.close()


class S3Link:
    """A line to one bucket."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, clients: Clients, options: S3Options, listeners: set[Listener]) -> None:
        from gramian_s3.bucket import Bucket, Meter

        self._clients = clients
        self._options = options
        self._meter = Meter()
        self._calls = Calls(options.timeout_s)
        self._bucket: Bucket = Bucket(clients.s3(options), options, self._meter)
        self._all_listeners = listeners
        self._own_listeners: set[Listener] = set()

    def check(self) -> None:
        self._calls.one(lambda _: self._bucket.check())

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:  # noqa: ARG002 - see `limits`
        """Neither bucket nor topic: those are their operator's."""
        key = keys.place(fed_id)

        def make(pace: Pace) -> None:
            if self._bucket.revision(key) is not None:
                return
            try:
                self._bucket.write(key, _PLACE, pace, None)
            except RevisionConflict:  # somebody else makes it at the same time
                return
            self._bucket.require_conditions(key, pace)

        self._calls.one(make)

    def destroy(self, fed_id: str) -> None:
        """The mark of the place first, so that nobody writes to it any more, then whatever lies there."""
        self._remove([keys.place(fed_id)])
        self._sweep(keys.prefix(fed_id))

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        """The roster before and after the heads is the same one, so that all of it stood at one moment."""
        if len(peers) > MAX_CUT_PEERS:
            raise ValueError(f"a cut has at most {MAX_CUT_PEERS} peers, not {len(peers)}")
        heads = {peer_id: keys.head(fed_id, peer_id) for peer_id in peers}
        roster = self._roster(fed_id)
        for _ in range(CUT_ATTEMPTS):
            found = self._calls.all(partial(self._bucket.read, key, max_bytes=MAX_HEAD_BYTES) for key in heads.values())
            cut = Cut(
                roster, {peer_id: entry for peer_id, entry in zip(heads, found, strict=True) if entry is not None}
            )
            if not heads or self._revision(keys.roster(fed_id)) == (roster.revision if roster else None):
                return cut
            roster = self._roster(fed_id)
        raise TransportUnavailable("the federation's roster changes too quickly to be read: try again")

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, keys.roster(fed_id), data, expect, MAX_ROSTER_BYTES)

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, keys.head(fed_id, peer_id), data, expect, MAX_HEAD_BYTES)

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        """The mark that it returns is a digest of the chunks' ETags."""
        where = keys.chunks(fed_id, peer_id, blob_id, len(chunks))
        if not all(0 < len(chunk) <= self.chunk_bytes for chunk in chunks):
            raise ValueError(f"chunks have 1 to {self.chunk_bytes} bytes")
        size = sum(map(len, chunks))
        if size > self._options.max_blob_bytes:
            raise TransportFull(f"the blob has {size} bytes: raise s3_max_blob_bytes ({self._options.max_blob_bytes})")
        self._require_place(fed_id)
        return _mark(
            self._calls.all(partial(self._bucket.store, key, chunk) for key, chunk in zip(where, chunks, strict=True))
        )

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        where = keys.chunks(fed_id, peer_id, blob_id, count)
        found = self._revisions(where)
        missing = [index for index, revision in enumerate(found) if revision is None]
        if not missing and since and _mark([revision for revision in found if revision]) != since:
            return list(range(count))
        return missing

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> list[bytes]:
        from gramian_s3.bucket import Budget

        where, budget = keys.chunks(fed_id, peer_id, blob_id, count), Budget(max_bytes)
        return self._calls.all(partial(self._bucket.fetch, key, budget=budget) for key in where)

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        from gramian_s3.bucket import MAX_DELETES

        where = keys.chunks(fed_id, peer_id, blob_id, count)
        for start in range(0, count, MAX_DELETES):
            self._remove(where[start : start + MAX_DELETES])

    def free_peer(self, fed_id: str, peer_id: str) -> None:
        self._sweep(keys.blobs(fed_id, peer_id))

    def nudge(self, fed_id: str, data: bytes) -> None:
        """Nothing without a topic: the others pulse on schedule."""
        from gramian_s3.nudges import MAX_NUDGE_BYTES, publish

        check_hex_id(fed_id, "fed_id")
        if len(data) > MAX_NUDGE_BYTES:
            raise ValueError(f"a nudge has at most {MAX_NUDGE_BYTES} bytes, not {len(data)}")
        if self._options.topic is not None:
            self._meter.sent(len(data))
            self._calls.one(lambda _: publish(self._clients.sns(self._options), self._options, fed_id, data))

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        """Through a queue that bears the ids of federation and peer; several that listen as one peer share it."""
        from gramian_s3.nudges import Listener

        if self._options.topic is None:
            return lambda: None
        listener = Listener(self._clients, self._options, fed_id, peer_id, on_nudge)
        self._calls.one(lambda _: listener.subscribe())
        listener.start()
        self._own_listeners.add(listener)
        self._all_listeners.add(listener)

        def stop() -> None:
            _stop([listener])
            self._own_listeners.discard(listener)
            self._all_listeners.discard(listener)

        return stop

    def traffic(self) -> Traffic:
        """Bodies of objects and nudges that were sent; nudges heard are left out."""
        return Traffic(sent_bytes=self._meter.sent_bytes, received_bytes=self._meter.received_bytes)

    def close(self) -> None:
        """Stop listening; connections stay for the next link. May be repeated."""
        _stop(self._own_listeners)
        self._all_listeners -= self._own_listeners
        self._own_listeners.clear()
        self._calls.close()

    def _put(self, fed_id: str, key: str, data: bytes, expect: str | None, max_bytes: int) -> str:
        """Compare-and-set. A lost answer leaves open what happened, so the entry is read back then."""
        if len(data) > max_bytes:
            raise ValueError(f"an entry has at most {max_bytes} bytes, not {len(data)}")
        if expect is None:
            self._require_place(fed_id)
        half_s = self._options.timeout_s / 2
        try:
            return self._calls.one(lambda pace: self._bucket.write(key, data, pace, expect), half_s)
        except ContentMissing:
            self._require_place(fed_id)
            raise RevisionConflict("what was to be replaced is gone") from None
        except TransportUnavailable:
            entry = self._calls.one(lambda pace: self._bucket.read(key, pace, max_bytes), half_s)
            if entry is not None and entry.revision != expect and entry.data == data:
                return entry.revision
            if (entry.revision if entry is not None else None) == expect:
                raise
            raise RevisionConflict("somebody else wrote while the answer was lost") from None

    def _roster(self, fed_id: str) -> Entry | None:
        """Raises ContentMissing if the federation has no place."""
        where = (keys.place(fed_id), keys.roster(fed_id))
        place, roster = self._calls.all(partial(self._bucket.read, key, max_bytes=MAX_ROSTER_BYTES) for key in where)
        if place is None:
            raise self._gone()
        return roster

    def _require_place(self, fed_id: str) -> None:
        if self._revision(keys.place(fed_id)) is None:
            raise self._gone()

    def _gone(self) -> ContentMissing:
        return ContentMissing(f"the bucket {self._options.bucket} has no place of this federation")

    def _revision(self, key: str) -> str | None:
        return self._revisions([key])[0]

    def _revisions(self, where: Sequence[str]) -> list[str | None]:
        """ETags of the objects, None for those that are absent."""

        def look(key: str) -> Callable[[Pace], str | None]:
            return lambda _: self._bucket.revision(key)

        return self._calls.all(map(look, where))

    def _sweep(self, prefix: str) -> None:
        for _ in range(MAX_SWEEPS):
            found = self._calls.one(lambda _: self._bucket.listed(prefix))
            if not found:
                return
            self._remove(found)
        raise TransportUnavailable(
            f"the bucket {self._options.bucket} has more objects of this federation than can be removed at once"
        )

    def _remove(self, where: Sequence[str]) -> None:
        self._calls.one(lambda _: self._bucket.remove(where))


def _stop(listeners: Iterable[Listener]) -> None:
    """All at once. A service that does not answer holds up nobody who ends: what stays behind is found again."""

    def stopping(listener: Listener) -> Callable[[Pace], None]:
        return lambda _: listener.stop()

    with suppress(TransportUnavailable):
        Calls(STOP_S).all(map(stopping, list(listeners)))


def _mark(revisions: Sequence[str]) -> str:
    """Changes with any of the ETags."""
    return hashlib.sha256(",".join(revisions).encode()).hexdigest()
