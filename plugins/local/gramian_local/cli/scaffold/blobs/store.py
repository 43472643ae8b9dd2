"""The object store is a directory here, so that everything works as it stands: put yours in its place."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gramian.errors import BlobCorrupt, BlobMissing, StoreError
from gramian.ports import BlobInfo

_NAME = re.compile(r"[0-9a-f-]{1,64}")
ATTEMPTS = 8


class AcmeBlobStore:
    """`gramian.ports.BlobStore` for any number of threads and processes: a file `<space>/<digest>` per blob."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError."""
        self._path = path
        try:
            (path / "unfinished").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store {path} cannot be used: {error}") from error

    def put(self, space: str, data: bytes | bytearray) -> str:
        """Written under another name first: a reader sees the whole blob or none, whenever this process dies."""
        digest = hashlib.sha256(data).hexdigest()
        target = self._place(space) / digest
        for _ in range(ATTEMPTS):
            with suppress(FileNotFoundError):  # the space was cleared in between
                target.parent.mkdir(exist_ok=True)
                self._write(target, data)
                return digest
        raise StoreError(f"the space {space} is being cleared again and again: try later")

    def get(self, space: str, digest: str) -> bytes:
        try:
            data = (self._place(space) / _checked(digest)).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(f"there is no blob {digest} in space {space}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise BlobCorrupt(f"blob {digest} in space {space} is damaged: restore it from a backup")
        return data

    def read(self, space: str, digest: str, start: int, size: int) -> bytes:
        try:
            with (self._place(space) / _checked(digest)).open("rb") as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError as error:
            raise BlobMissing(f"there is no blob {digest} in space {space}") from error

    def delete(self, space: str, digest: str) -> None:
        (self._place(space) / _checked(digest)).unlink(missing_ok=True)

    def list(self, space: str) -> Iterator[BlobInfo]:
        with suppress(FileNotFoundError):
            for file in self._place(space).iterdir():
                with suppress(FileNotFoundError):
                    about = file.stat()
                    yield BlobInfo(file.name, about.st_size, about.st_mtime)

    def clear(self, space: str) -> None:
        shutil.rmtree(self._place(space), ignore_errors=True)

    def close(self) -> None:
        """No file stays open."""

    def _place(self, space: str) -> Path:
        return self._path / f"space-{_checked(space)}"

    def _write(self, target: Path, data: bytes | bytearray) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._path / "unfinished")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _checked(name: str) -> str:
    """No name leaves the directory. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("spaces and digests are 1 to 64 of 0-9, a-f and -")
    return name
