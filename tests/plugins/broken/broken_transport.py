"""Transports that lose or mix what members tell each other."""

from __future__ import annotations

import time

from broken_publish import plugin

from gramian.errors import RevisionConflict
from gramian_memory.transport import MemoryLink, MemoryTransport


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
hears_everything = _transport(HearsEverything)
creates_anew = _transport(CreatesAnew)
goes_on_when_closed = _transport(GoesOnWhenClosed)
hangs = plugin("gramian_transport", lambda _home: Hangs())
