"""Durable private files: what the stores of one machine share."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gramian.errors import StoreError
from gramian.turns import TURNS

TEMPORARY_PREFIX = ".tmp-"
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600

_FULL = "the disk is full or a quota is used up: free some space, then try again"
_READ_ONLY = (
    "it cannot be written: check the owner and permissions of the files, and whether the disk is mounted read-only"
)
_FILES = "too many files are open: raise the limit (ulimit -n) and restart"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "a file would pass the size limit (of process or disk): raise the limit (ulimit -f), then try again",
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EIO: "the disk reports an error: check it before anything else is written to it",
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError whose text names `path` and what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, f"the system says {error.strerror or error}")
        raise StoreError(f"Cannot use {path}: {remedy}.") from error


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals inside `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create `path` and its parents (0700, durable); existing ones keep their mode."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir(PRIVATE_DIRECTORY)
    sync_directory(path.parent)


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Put `data` at `path` (0600), whole or not at all, whatever is there now; durable on return."""
    with TURNS.away():
        with _temporary(path.parent, data) as temporary:
            temporary.replace(path)
        sync_directory(path.parent)


def create_file(path: Path, data: bytes) -> bool:
    """Put `data` at `path` (0600) unless something is there; of many processes exactly one gets True.

    The name appears by a hard link: nobody ever sees the file empty or half written.
    """
    with _temporary(path.parent, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    sync_directory(path.parent)
    return True


@contextmanager
def _temporary(directory: Path, data: bytes | bytearray) -> Iterator[Path]:
    """A synced file with `data` for the block to rename or link; its own name is gone afterwards."""
    path = directory / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        yield path
    finally:
        with suppress(OSError):  # renamed, or the disk has a problem that is already being reported
            path.unlink(missing_ok=True)
