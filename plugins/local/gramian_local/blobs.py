"""Blob store on files: `<root>/<space>/<first 2 hex>/<sha256>`."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gramian.errors import BlobCorrupt, BlobMissing, StoreError
from gramian.ports import BlobInfo, BlobStore, Data
from gramian_local._files import TEMPORARY_PREFIX, make_directory, replace_file, store_errors, sync_directory

_SPACE: Final = re.compile(r"[0-9a-f-]{1,64}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_CLEARED_PREFIX: Final = ".cleared-"
_STALE_S: Final = 3600.0
"""A temporary file this old belongs to a process that died: no put takes an hour."""
_ATTEMPTS: Final = 8


class FileBlobStore(BlobStore):
    """`gramian.ports.BlobStore` in a directory that threads and processes of one machine share.

    Spaces are 1 to 64 of `0-9 a-f -`, digests 64 of `0-9 a-f` (else ValueError), so no name leaves the root.
    A put that overlaps a clear of its space counts as before it (removed whole) or after it (kept whole); one
    that meets clear after clear gives up with StoreError.
    """

    def __init__(self, root: Path | str, *, clock: Callable[[], float] = time.time) -> None:
        """`root` is created by the first put. `clock` gives unix seconds."""
        self._root = Path(root)
        self._clock = clock

    def put(self, space: str, data: Data) -> str:
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(space, digest)
        with store_errors(self._root):
            for _ in range(_ATTEMPTS):
                # Written anew even if it exists: that repairs a damaged file and refreshes its time.
                with suppress(FileNotFoundError):  # a clear took the directory away
                    make_directory(path.parent)
                    replace_file(path, data)
                    return digest
        raise StoreError(f"Space {space} is being cleared again and again: try later.")

    def get(self, space: str, digest: str) -> bytes:
        path = self._path(space, digest)
        with store_errors(path), _found(space, digest):
            data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(
                f"Blob {digest} in space {space} is damaged, its bytes no longer match their digest: "
                f"check the disk and restore {path} from a backup, or learn the project's data again."
            )
        return data

    def read(self, space: str, digest: str, start: int, size: int) -> bytes:
        path = self._path(space, digest)
        with store_errors(path), _found(space, digest), path.open("rb", buffering=0) as file:
            file.seek(start)
            # No more than there is: all that is asked for would be set aside first.
            return file.read(max(0, min(size, os.fstat(file.fileno()).st_size - start)))

    def delete(self, space: str, digest: str) -> None:
        path = self._path(space, digest)
        with store_errors(path):
            # Not synced: what a power cut brings back, nothing points to, and sweeping finds it.
            path.unlink(missing_ok=True)

    def list(self, space: str) -> Iterator[BlobInfo]:
        """All blobs by digest; removes what dead processes left half written."""
        directory = self._space(space)
        with store_errors(directory):
            return iter(sorted(self._scan(directory), key=lambda info: info.digest))

    def clear(self, space: str) -> None:
        directory = self._space(space)
        with store_errors(self._root):
            with suppress(FileNotFoundError):
                # One rename takes everything out of sight; what a killed clear left is removed by the next.
                directory.rename(self._root / f"{_CLEARED_PREFIX}{secrets.token_hex(8)}")
                sync_directory(self._root)
            for name in _names(self._root):
                if name.startswith(_CLEARED_PREFIX):
                    _remove_tree(self._root / name)

    def close(self) -> None:
        """Nothing is held open."""

    def _space(self, space: str) -> Path:
        if not _SPACE.fullmatch(space):
            raise ValueError("a space is 1 to 64 of 0-9, a-f and -")
        return self._root / space

    def _path(self, space: str, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError("a digest is 64 of 0-9 and a-f")
        return self._space(space) / digest[:2] / digest

    def _scan(self, directory: Path) -> Iterator[BlobInfo]:
        for shard in _names(directory):
            for name in _names(directory / shard):
                path = directory / shard / name
                with suppress(FileNotFoundError):  # removed or renamed meanwhile
                    status = path.stat()
                    if _DIGEST.fullmatch(name):
                        yield BlobInfo(name, status.st_size, status.st_mtime)
                    elif name.startswith(TEMPORARY_PREFIX) and self._clock() - status.st_mtime > _STALE_S:
                        path.unlink()


@contextmanager
def _found(space: str, digest: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise BlobMissing(f"There is no blob {digest} in space {space}.") from error


def _names(directory: Path) -> list[str]:
    """What a directory holds; nothing if it is not there, or is a stray file."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _remove_tree(directory: Path) -> None:
    """Remove a space out of sight. Others may be removing it too, and a put already inside may add a file."""
    for _ in range(_ATTEMPTS):
        try:
            for parent, directories, files in os.walk(directory, topdown=False):
                for name in files:
                    Path(parent, name).unlink(missing_ok=True)
                for name in directories:
                    _remove_directory(Path(parent, name))
            _remove_directory(directory)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def _remove_directory(directory: Path) -> None:
    with suppress(FileNotFoundError):
        directory.rmdir()
