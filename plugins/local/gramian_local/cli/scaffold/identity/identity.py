"""The key is a file here, and processes are told apart by locks, so that everything works as it stands: put your vault
in the file's place. Where nobody can ask whether a process still runs, a mark can be the time by which it has ended."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from gramian.errors import StoreError

KEY_BYTES = 32
_MARK = re.compile(r"[0-9a-f]{32}")


class AcmeIdentity:
    """`gramian.ports.Identity`: one of any number of processes that hold a node's key."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError."""
        self._path = path
        self.instance = secrets.token_hex(16)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.master_key = self._key()
            self._lock: int | None = self._held()
        except OSError as error:
            raise StoreError(f"the key's directory {path} cannot be used: {error}") from error

    def alive(self, instance: str) -> bool:
        """The kernel drops a process's lock however it ends."""
        if not _MARK.fullmatch(instance):
            return False
        try:
            file = os.open(self._path / instance, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            return True
        finally:
            os.close(file)

    def close(self) -> None:
        if self._lock is not None:
            (self._path / self.instance).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _key(self) -> bytes:
        """Made by the first process, whole or not at all: of several that begin at once one comes first."""
        place, new = self._path / "key", self._path / f"new-{self.instance}"
        if not place.exists():
            new.touch(mode=0o600)
            new.write_bytes(secrets.token_bytes(KEY_BYTES))
            with suppress(FileExistsError):
                place.hardlink_to(new)
            new.unlink()
        key = place.read_bytes()
        if len(key) != KEY_BYTES:
            raise StoreError(f"{place} has {len(key)} bytes instead of {KEY_BYTES}: restore it from a backup")
        return key

    def _held(self) -> int:
        """Locked before it gets its name: nobody may find it free and take it for dead."""
        new = self._path / f"new-{self.instance}"
        lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        new.rename(self._path / self.instance)
        return lock
