"""The home directory: where a node on one machine keeps everything, and its master key."""

from __future__ import annotations

import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gramian.errors import StoreError
from gramian_local._files import create_file, make_directory, store_errors

KEY_BYTES: Final = 32

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below `root`, and the 32 bytes that seal this node's secrets at rest."""

    root: Path
    master_key: bytes = field(repr=False)

    @property
    def database(self) -> Path:
        """The SQLite file of the state and token stores."""
        return self.root / "gramian.db"

    @property
    def blobs(self) -> Path:
        """Root directory of the blob store."""
        return self.root / "blobs"

    @property
    def uploads(self) -> Path:
        """Root directory of the store of uploads."""
        return self.root / "uploads"

    @property
    def nats(self) -> Path:
        """Directory of the embedded nats-server."""
        return self.root / "nats"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def instances(self) -> Path:
        """One locked file per running process."""
        return self.root / "instances"


def default_home() -> Path:
    """Where this user's data belongs on this operating system."""
    from platformdirs import user_data_dir  # not needed, so need not be installed, where a home is named

    return Path(user_data_dir("gramian"))


def open_home(path: Path | str | None = None) -> Home:
    """Open the home at `path` (default: `default_home()`), creating what is missing; processes may race.

    Raises StoreError for a directory that others may write, a master key of the wrong length or open to
    others, and a home that has data but lost its key. Nothing is repaired silently: a key that others could
    read may be known, and a fresh key cannot open what the lost one sealed.
    """
    root = Path(path).absolute() if path is not None else default_home()
    with store_errors(root):
        make_directory(root)
        _refuse_shared_directory(root)
        home = Home(root, _read_or_create_key(root))
        for directory in (home.blobs, home.nats, home.logs, home.instances):
            make_directory(directory)
    return home


def _refuse_shared_directory(root: Path) -> None:
    if root.stat().st_mode & _OTHERS_WRITE:
        raise StoreError(f"Others may write to {root} and could swap its files: run `chmod go-w {root}`.")


def _read_or_create_key(root: Path) -> bytes:
    path = root / "master.key"
    # In this order: whoever made the database had made the key before.
    has_data = Home(root, b"").database.exists()
    if not path.exists():
        if has_data:
            raise StoreError(
                f"{path} is missing, and without it the secrets in this home cannot be opened: restore it from a "
                "backup, or start with another home."
            )
        create_file(path, secrets.token_bytes(KEY_BYTES))
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    if path.stat().st_mode & _OTHERS:
        raise StoreError(
            f"Others may read the master key {path}: run `chmod 600 {path}`, and if somebody may have read it, "
            "start with another home."
        )
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise StoreError(
            f"The master key {path} has {len(key)} bytes instead of {KEY_BYTES}: restore it from a backup, or start "
            "with another home."
        )
    return key
