"""Which processes of a home still run: each holds a lock on a file named by its id."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from gramian_local._files import PRIVATE_FILE, TEMPORARY_PREFIX, make_directory, store_errors
from gramian_local.home import Home

_ID: Final = re.compile(r"[0-9a-f]{32}")


class Instance:
    """This process, as other processes on the home see it: alive until `close` or the process's end.

    Jobs and projects that live in memory carry the id of their owner, so that anyone can tell when it is
    gone. The kernel drops the lock however the process ends; a process id could belong to another by now.
    """

    def __init__(self, home: Home) -> None:
        """Raises StoreError if the home cannot be written."""
        self.id: Final = secrets.token_hex(16)
        self._directory = home.instances
        self._descriptor: int | None = None
        with store_errors(self._directory):
            make_directory(self._directory)
            self._remove_dead()
            self._descriptor = self._hold()

    def alive(self, instance_id: str) -> bool:
        """Whether the process with that id still runs. A text that is no id belongs to nobody."""
        if not _ID.fullmatch(instance_id):
            return False
        with store_errors(self._directory):
            return _locked(self._directory / instance_id)

    def close(self) -> None:
        """Be seen as gone; may be called again."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        with store_errors(self._directory):
            try:
                (self._directory / self.id).unlink(missing_ok=True)
            finally:
                os.close(descriptor)

    def _hold(self) -> int:
        # Locked before it gets its name: nobody may find it free and take it for dead.
        temporary = self._directory / f"{TEMPORARY_PREFIX}{self.id}"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            temporary.rename(self._directory / self.id)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        return descriptor

    def _remove_dead(self) -> None:
        """Processes that were killed leave their files behind."""
        for name in os.listdir(self._directory):
            if _ID.fullmatch(name) and not _locked(self._directory / name):
                (self._directory / name).unlink(missing_ok=True)


class HomeIdentity:
    """`gramian.ports.Identity` of a home: its master key, and this process's life in it."""

    def __init__(self, home: Home) -> None:
        """Raises StoreError if the home cannot be written."""
        self._process = Instance(home)
        self.master_key = home.master_key
        self.instance = self._process.id

    def alive(self, instance: str) -> bool:
        return self._process.alive(instance)

    def close(self) -> None:
        self._process.close()


def _locked(path: Path) -> bool:
    """Whether the owner holds its exclusive lock. Probes share theirs, so they never mistake each other for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        return True
    finally:
        os.close(descriptor)
