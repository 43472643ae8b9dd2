"""Blob stores that lose, mix or tear what they keep."""

from __future__ import annotations

import hashlib
import itertools
import time

from broken_publish import plugin

from gramian.errors import BlobMissing, StoreError
from gramian_local._files import make_directory
from gramian_local.blobs import FileBlobStore


class OneSpaceForAll(FileBlobStore):
    """Ignores the space: a tenant could read another's blobs."""

    def _space(self, space):
        return self._root / "0"


class KeepsFirstTime(FileBlobStore):
    """Skips the write when the blob is there, and with it the new time."""

    def put(self, space, data):
        path = self._path(space, digest := hashlib.sha256(data).hexdigest())
        return digest if path.exists() else super().put(space, data)


class LosesTheLastChunk(FileBlobStore):
    """Uploads in parts and forgets the one that is not full."""

    part_bytes = 8 * 2**20

    def put(self, space, data):
        digest = hashlib.sha256(data).hexdigest()
        kept = data[: len(data) - len(data) % self.part_bytes] if len(data) > self.part_bytes else data
        path = self._path(space, digest)
        make_directory(path.parent)
        path.write_bytes(kept)
        return digest

    def get(self, space, digest):
        try:
            return self._path(space, digest).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(digest) from error


class WritesInPlace(FileBlobStore):
    """Under the blob's own name, piece by piece."""

    def put(self, space, data):
        path = self._path(space, digest := hashlib.sha256(data).hexdigest())
        make_directory(path.parent)
        with path.open("wb", buffering=0) as file:
            for start in range(0, max(1, len(data)), 400_000):
                file.write(data[start : start + 400_000])
                time.sleep(0.02)
        return digest


class RefusesTheSecondDelete(FileBlobStore):
    """Takes it for an error to remove what is gone."""

    def delete(self, space, digest):
        if not self._path(space, digest).exists():
            raise BlobMissing(digest)
        super().delete(space, digest)


class ListsTheFirstPage(FileBlobStore):
    """One answer of the service's."""

    def list(self, space):
        return itertools.islice(super().list(space), 1000)


class ClearsTheFirstPage(FileBlobStore):
    """What one request can delete."""

    def clear(self, space):
        for info in itertools.islice(super().list(space), 1000):
            self.delete(space, info.digest)


class ForgetsInAnOutage(FileBlobStore):
    """A service that does not answer has no blobs."""

    def get(self, space, digest):
        try:
            return super().get(space, digest)
        except StoreError as error:
            raise BlobMissing(digest) from error


def _store(kind):
    return plugin("gramian_blob_store", lambda home: kind(home / "blobs"))


one_space_for_all = _store(OneSpaceForAll)
keeps_first_time = _store(KeepsFirstTime)
loses_the_last_chunk = _store(LosesTheLastChunk)
writes_in_place = _store(WritesInPlace)
refuses_the_second_delete = _store(RefusesTheSecondDelete)
lists_the_first_page = _store(ListsTheFirstPage)
clears_the_first_page = _store(ClearsTheFirstPage)
forgets_in_an_outage = _store(ForgetsInAnOutage)
