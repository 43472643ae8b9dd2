"""Uploads on one machine: files below the home, sent to this server by whoever holds a ticket."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qsl

from gramian.domain.canonical import join
from gramian.domain.crypto import hkdf
from gramian.errors import AlreadyExists, BlobMissing, InvalidRequest
from gramian.ports import Arrived, Ticket, UploadStore
from gramian_local._files import TEMPORARY_PREFIX, make_directory, store_errors, sync_directory

PATH: Final = "/symetry/uploads"
COPY_BYTES: Final = 2**20
_HEX: Final = re.compile(r"[0-9a-f]{1,64}")


class FileUploadStore(UploadStore):
    """`gramian.ports.UploadStore`. A ticket is a path with an HMAC: it needs no look-up, and names one file only.

    A file appears whole or not at all, and once: what has arrived never changes. Spaces and names are 1 to 64
    lower-case hex digits (else ValueError), so no name leaves the root.
    """

    def __init__(self, root: Path, secret: bytes, *, clock: Callable[[], float] = time.time) -> None:
        """`root` is created by the first upload. `secret`: the node's master key, or any other of its secrets."""
        self._root = root
        self._key = hkdf(secret, salt=b"", info=join("upload tickets"))
        self._clock = clock

    def ticket(self, space: str, name: str, *, size_bytes: int, expires_at: int) -> Ticket:
        self._path(space, name)
        signature = self._signature(space, name, str(size_bytes), str(expires_at))
        query = f"size={size_bytes}&expires={expires_at}&signature={signature}"
        return Ticket(f"{PATH}/{space}/{name}?{query}", {"Content-Type": "application/octet-stream"})

    def admits(self, space: str, name: str, query: str) -> int | None:
        """The bytes that an upload must have, if the query is that of its ticket and not too late; else None."""
        given = dict(parse_qsl(query))
        size, expires = given.get("size", ""), given.get("expires", "")
        if not (_HEX.fullmatch(space) and _HEX.fullmatch(name) and size.isdecimal() and expires.isdecimal()):
            return None
        expected = self._signature(space, name, size, expires)
        is_genuine = hmac.compare_digest(expected.encode(), given.get("signature", "").encode())
        return int(size) if is_genuine and self._clock() < int(expires) else None

    def spool(self, path: str, query: str, size_bytes: int) -> BinaryIO | None:
        """A file for the body of a PUT to `path`, before it has come; None unless a ticket admits just that.

        It is removed when it is closed: `receive` gives it its name.
        """
        prefix, _, rest = path.partition(f"{PATH}/")
        space, _, name = rest.partition("/")
        if prefix or self.admits(space, name, query) != size_bytes:
            return None
        with store_errors(self._root):
            make_directory(self._root / space)
            return tempfile.NamedTemporaryFile(  # type: ignore[return-value]
                dir=self._root / space, prefix=TEMPORARY_PREFIX
            )

    def receive(self, space: str, name: str, query: str, body: BinaryIO, size_bytes: int) -> None:
        """Take in a body of so many bytes: what `spool` made, or another stream.

        Raises InvalidRequest if no ticket admits it, AlreadyExists if the upload is there.
        """
        expected = self.admits(space, name, query)
        if expected is None:
            raise InvalidRequest("this upload's address is wrong or too old: create another upload")
        if size_bytes != expected:
            raise InvalidRequest(f"the upload was created for {expected} bytes, these are {size_bytes}")
        path = self._path(space, name)
        with store_errors(path), self._spooled(path.parent, body) as temporary:
            if os.path.getsize(temporary) != expected:
                raise InvalidRequest(f"the body ended early: {expected} bytes were announced")
            try:
                # By a hard link: nobody sees the file half written, and only one comes first.
                path.hardlink_to(temporary)
            except FileExistsError:
                raise AlreadyExists("this upload has arrived already: create another one") from None
            sync_directory(path.parent)

    def find(self, space: str, name: str) -> Arrived | None:
        path = self._path(space, name)
        with store_errors(path):
            try:
                return _arrived(path.stat())
            except FileNotFoundError:
                return None

    def open(self, space: str, name: str, tag: str) -> BinaryIO:
        path = self._path(space, name)
        with store_errors(path):
            try:
                file = path.open("rb")
            except FileNotFoundError as error:
                raise BlobMissing(f"There is no upload {name} in space {space}.") from error
        if _arrived(os.fstat(file.fileno())).tag != tag:
            file.close()
            raise BlobMissing(f"The upload {name} in space {space} is another file now.")
        return file

    def delete(self, space: str, name: str) -> None:
        path = self._path(space, name)
        with store_errors(path):
            path.unlink(missing_ok=True)

    def clear(self, space: str) -> None:
        directory = self._path(space, "0").parent
        with store_errors(directory):
            # Bodies that are still coming remove themselves, or are found when they are a week old.
            for path in _entries(directory):
                path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or not there
                directory.rmdir()

    def expire(self, before: float) -> None:
        with store_errors(self._root):
            for directory in _entries(self._root):
                for path in _entries(directory):
                    with suppress(FileNotFoundError):
                        if path.stat().st_mtime < before:
                            path.unlink()
                with suppress(OSError):  # not empty
                    directory.rmdir()

    def close(self) -> None:
        """Nothing is held open."""

    @contextmanager
    def _spooled(self, directory: Path, body: BinaryIO) -> Iterator[Path]:
        """A synced file with the body, in the directory where it is to stay."""
        name = getattr(body, "name", None)
        if isinstance(name, str) and Path(name).parent == directory:
            body.flush()
            os.fsync(body.fileno())
            yield Path(name)
            return
        make_directory(directory)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=TEMPORARY_PREFIX) as file:
            shutil.copyfileobj(body, file, COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())
            yield Path(file.name)

    def _signature(self, space: str, name: str, size: str, expires: str) -> str:
        return hmac.new(self._key, join(space, name, size, expires), hashlib.sha256).hexdigest()

    def _path(self, space: str, name: str) -> Path:
        if not (_HEX.fullmatch(space) and _HEX.fullmatch(name)):
            raise ValueError("spaces and names of uploads are 1 to 64 of 0-9 and a-f")
        return self._root / space / name


def _arrived(status: os.stat_result) -> Arrived:
    return Arrived(status.st_size, f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}")


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
