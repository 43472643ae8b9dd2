"""A small HTTP server takes the uploads here, into a directory, so that everything works as it stands. With an object
storage of yours, `ticket` signs an address of it, and all that begins with the server goes."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qsl

from gramian.errors import BlobMissing, StoreError
from gramian.ports import Arrived, Ticket

_HEX = re.compile(r"[0-9a-f]{1,64}")
COPY_BYTES = 2**20


class AcmeUploadStore:
    """`gramian.ports.UploadStore`: a file `<space>/<name>` per upload, which appears whole and never changes."""

    def __init__(self, path: Path, host: str) -> None:
        """Raises StoreError."""
        self._path = path
        self._key = secrets.token_bytes(32)
        try:
            (path / "unfinished").mkdir(parents=True, exist_ok=True)
            self._server = _Server((host, 0), self)
        except OSError as error:
            raise StoreError(f"uploads cannot be taken at {host} into {path}: {error}") from error

    def ticket(self, space: str, name: str, *, size_bytes: int, expires_at: int) -> Ticket:
        self._place(space, name)
        signed = f"{space}/{name}?size={size_bytes}&expires={expires_at}"
        return Ticket(f"{self._server.url}/{signed}&signature={self._signature(signed)}", {})

    def find(self, space: str, name: str) -> Arrived | None:
        try:
            return _arrived(self._place(space, name).stat())
        except FileNotFoundError:
            return None

    def open(self, space: str, name: str, tag: str) -> BinaryIO:
        try:
            file = self._place(space, name).open("rb")
        except FileNotFoundError as error:
            raise BlobMissing(f"there is no upload {name} in space {space}") from error
        if _arrived(os.fstat(file.fileno())).tag != tag:
            file.close()
            raise BlobMissing(f"the upload {name} in space {space} is another one now")
        return file

    def delete(self, space: str, name: str) -> None:
        self._place(space, name).unlink(missing_ok=True)

    def clear(self, space: str) -> None:
        shutil.rmtree(self._place(space, "0").parent, ignore_errors=True)

    def expire(self, before: float) -> None:
        for file in self._path.glob("*/*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < before:
                    file.unlink()

    def close(self) -> None:
        self._server.stop()

    def receive(self, path: str, body: BufferedIOBase, size_bytes: int) -> int:
        """The HTTP status of a PUT of so many bytes."""
        signed, _, signature = path.removeprefix("/").partition("&signature=")
        place, _, query = signed.partition("?")
        if not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
            return 403
        about = dict(parse_qsl(query))
        if time.time() >= int(about["expires"]) or size_bytes != int(about["size"]):
            return 403
        return self._take(self._place(*place.split("/")), body, size_bytes)

    def _take(self, place: Path, body: BufferedIOBase, size_bytes: int) -> int:
        """Under a name of its own until it is whole; what has arrived stays."""
        place.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._path / "unfinished") as file:
            left = size_bytes
            while left and (part := body.read(min(left, COPY_BYTES))):
                file.write(part)
                left -= len(part)
            if left:
                return 400
            file.flush()
            os.fsync(file.fileno())
            try:
                place.hardlink_to(file.name)
            except FileExistsError:
                return 409
        return 201

    def _signature(self, signed: str) -> str:
        return hmac.new(self._key, signed.encode(), "sha256").hexdigest()

    def _place(self, space: str, name: str) -> Path:
        """No name leaves the directory. Raises ValueError."""
        if not (_HEX.fullmatch(space) and _HEX.fullmatch(name)):
            raise ValueError("spaces and names of uploads are 1 to 64 of 0-9 and a-f")
        return self._path / f"space-{space}" / name


def _arrived(about: os.stat_result) -> Arrived:
    return Arrived(about.st_size, f"{about.st_ino}-{about.st_mtime_ns}-{about.st_size}")


class _Server(ThreadingHTTPServer):
    """Runs on threads of its own until it is stopped."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], store: AcmeUploadStore) -> None:
        super().__init__(address, _Handler)
        self.store = store
        self.url = f"http://{address[0]}:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name="acme-uploads", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 60

    def do_PUT(self) -> None:
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal():
            self.send_error(411)
            return
        status = self.server.store.receive(self.path, self.rfile, int(size))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Addresses hold signatures: they belong into no log."""
