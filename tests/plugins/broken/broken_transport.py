"""Transports that lose or mix what members tell each other."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from broken_publish import plugin, scaffolded

from gramian.errors import RevisionConflict
from gramian.ports import Limits
from gramian_memory import space
from gramian_memory.transport import MemoryLink, MemoryTransport

bus = scaffolded("transport", "transport")


class IgnoresTheRevision(MemoryLink):
    """The last writer wins."""

    def _put(self, fed_id, key, data, expect):
        try:
            return super()._put(fed_id, key, data, expect)
        except RevisionConflict:
            entry = self._space.entries(fed_id).get(key)
            return super()._put(fed_id, key, data, entry.revision if entry else None)


class MixesFederations(MemoryLink):
    """All blobs in one place."""

    def put_blob(self, fed_id, peer_id, blob_id, chunks):
        self.create("0", max_blob_bytes=2**40)
        return super().put_blob("0", peer_id, blob_id, chunks)

    def missing_chunks(self, fed_id, peer_id, blob_id, count, *, since=""):
        return super().missing_chunks("0", peer_id, blob_id, count, since=since)


class LosesTheLastChunk(MemoryLink):
    """Acknowledges before the last one is stored."""

    def put_blob(self, fed_id, peer_id, blob_id, chunks):
        mark = super().put_blob(fed_id, peer_id, blob_id, chunks)
        if len(chunks) > 1:
            self._space._places[fed_id].chunks.pop((peer_id, blob_id, len(chunks) - 1))
        return mark


class SortsChunksAsText(MemoryLink):
    """10 before 2."""

    def get_blob(self, fed_id, peer_id, blob_id, count, *, max_bytes):
        chunks = super().get_blob(fed_id, peer_id, blob_id, count, max_bytes=max_bytes)
        return [chunks[index] for index in sorted(range(count), key=str)]


class ReadsBeyondTheLimit(MemoryLink):
    """Takes whatever a member stored."""

    def get_blob(self, fed_id, peer_id, blob_id, count, *, max_bytes):
        return super().get_blob(fed_id, peer_id, blob_id, count, max_bytes=2**60)


class NeverFrees(MemoryLink):
    """Room that is given back is not."""

    def free_blob(self, fed_id, peer_id, blob_id, count):
        return None


class FreesOneBlob(MemoryLink):
    """Of a peer that is gone, what it put first."""

    def free_peer(self, fed_id, peer_id):
        blob_ids = sorted(blob_id for peer, blob_id, _ in self._space._places[fed_id].chunks if peer == peer_id)
        for blob_id in blob_ids[:1]:
            self.free_blob(fed_id, peer_id, blob_id, 2)


class HearsEverything(MemoryLink):
    """One topic for the nudges of all federations."""

    def nudge(self, fed_id, data):
        super().nudge("0", data)

    def listen(self, fed_id, peer_id, on_nudge):
        return super().listen("0", peer_id, on_nudge)


class CreatesAnew(MemoryLink):
    """Making the place again empties it."""

    def create(self, fed_id, *, max_blob_bytes, replicas=1):
        self.destroy(fed_id)
        super().create(fed_id, max_blob_bytes=max_blob_bytes)


class GoesOnWhenClosed(MemoryLink):
    """A closed link works."""

    def close(self):
        return None


class InOneProcess(bus.AcmeLink):
    """A bus for what is small, and the memory of this process for the rest: right as long as nobody else runs."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._mine = MemoryLink(space.named(f"beside {self._path}"))

    def create(self, fed_id, *, max_blob_bytes, replicas=1):
        super().create(fed_id, max_blob_bytes=max_blob_bytes)
        self._mine.create(fed_id, max_blob_bytes=max_blob_bytes)

    def destroy(self, fed_id):
        super().destroy(fed_id)
        self._mine.destroy(fed_id)

    def close(self):
        super().close()
        self._mine.close()


class KeepsBlobsInOneProcess(InOneProcess):
    """The others find none."""

    def put_blob(self, *arguments):
        self._mine.create(arguments[0], max_blob_bytes=2**40)
        return self._mine.put_blob(*arguments)

    def missing_chunks(self, *arguments, **mark):
        return self._mine.missing_chunks(*arguments, **mark)

    def get_blob(self, *arguments, **limit):
        return self._mine.get_blob(*arguments, **limit)

    def free_blob(self, *arguments):
        self._mine.free_blob(*arguments)


class KeepsNudgesInOneProcess(InOneProcess):
    """The others pulse on schedule only."""

    def nudge(self, *arguments):
        self._mine.nudge(*arguments)

    def listen(self, *arguments):
        return self._mine.listen(*arguments)


class LocksInOneProcess(bus.AcmeLink):
    """Compare-and-set of the roster behind a lock, which only the threads of one process know."""

    _lock = threading.Lock()

    def put_roster(self, fed_id, data, *, expect):
        with self._lock:
            if self._revision(fed_id) != expect:
                raise RevisionConflict("another one stands there")
            time.sleep(0.05)  # wide enough for another process to look, on any machine
            return super().put_roster(fed_id, data, expect=self._revision(fed_id))

    def _revision(self, fed_id):
        roster = self.cut(fed_id, []).roster
        return roster.revision if roster else None


class LeavesChunksBehind(bus.AcmeLink):
    """Removes what one request can."""

    def destroy(self, fed_id):
        with self._bus() as database:
            for table in ("places", "entries", "nudges"):
                database.execute(f"DELETE FROM {table} WHERE fed = ?", (fed_id,))
            thousand = "SELECT number FROM chunks WHERE fed = ? LIMIT 1000"
            database.execute(f"DELETE FROM chunks WHERE number IN ({thousand})", (fed_id,))


class HoldsHalf(MemoryLink):
    """A message's length in 26 bits."""

    def put_blob(self, fed_id, peer_id, blob_id, chunks):
        kept, size = [], 0
        for chunk in chunks:
            size += len(chunk)
            kept.append(chunk if size < 2**26 else b"x")
        return super().put_blob(fed_id, peer_id, blob_id, kept)


class SharesNothing(MemoryTransport):
    """Whoever is invited does not learn where."""

    def shared_options(self, options):
        return {}


class SharesTooMuch(MemoryTransport):
    """An invitation carries keys that nobody gave."""

    def shared_options(self, options):
        return {**options, "memory_debug": "1"}


class HasNoRoom(MemoryTransport):
    """Limits of another unit than their name says."""

    def limits(self, options):
        return Limits(max_blob_bytes=1)


def _on_bus(kind):
    class Wrong(bus.AcmeTransport):
        def open(self, options):
            return kind(Path(options["acme_path"]), self._poll_s)

    return plugin("gramian_transport", lambda _home: Wrong(poll_s=0.01))


def _transport(kind):
    class Wrong(MemoryTransport):
        def open(self, options):
            return kind(super().open(options)._space)

    return plugin("gramian_transport", lambda _home: Wrong())


class Hangs(MemoryTransport):
    """Waits for an answer for ever, as far as a test can tell."""

    def open(self, options):
        time.sleep(1.5)
        return super().open(options)


ignores_the_revision = _transport(IgnoresTheRevision)
mixes_federations = _transport(MixesFederations)
loses_the_last_chunk = _transport(LosesTheLastChunk)
sorts_chunks_as_text = _transport(SortsChunksAsText)
reads_beyond_the_limit = _transport(ReadsBeyondTheLimit)
never_frees = _transport(NeverFrees)
frees_one_blob = _transport(FreesOneBlob)
hears_everything = _transport(HearsEverything)
creates_anew = _transport(CreatesAnew)
goes_on_when_closed = _transport(GoesOnWhenClosed)
keeps_blobs_in_one_process = _on_bus(KeepsBlobsInOneProcess)
keeps_nudges_in_one_process = _on_bus(KeepsNudgesInOneProcess)
locks_in_one_process = _on_bus(LocksInOneProcess)
leaves_chunks_behind = _on_bus(LeavesChunksBehind)
holds_half = _transport(HoldsHalf)
shares_nothing = plugin("gramian_transport", lambda _home: SharesNothing())
shares_too_much = plugin("gramian_transport", lambda _home: SharesTooMuch())
has_no_room = plugin("gramian_transport", lambda _home: HasNoRoom())
hangs = plugin("gramian_transport", lambda _home: Hangs())
