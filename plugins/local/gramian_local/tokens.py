"""Token store on SQLite: claims that exactly one caller wins until they expire."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from gramian.ports import TokenStore
from gramian.writes import validate_value
from gramian_local.database import BUSY_TIMEOUT_S, Broom, Database

# The expiry stands in the condition: a claim is free again the moment it expires, swept away or not.
_CLAIM: Final = """INSERT INTO tokens (key, value, expires_at) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE tokens.expires_at <= ?"""
_HOLDER: Final = "SELECT value FROM tokens WHERE key = ?"
_REPLACE: Final = "UPDATE tokens SET value = ?, expires_at = ? WHERE key = ? AND value = ? AND expires_at > ?"
_RELEASE: Final = "DELETE FROM tokens WHERE key = ? AND value = ?"
_SWEEP: Final = "DELETE FROM tokens WHERE key IN (SELECT key FROM tokens WHERE expires_at <= ? LIMIT ?)"


class SqliteTokenStore(TokenStore):
    """`gramian.ports.TokenStore` in a SQLite file, which may be the state store's."""

    def __init__(self, path: Path | str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open or create the file. Raises StoreError."""
        self._database = Database(Path(path), busy_timeout_s)
        self._broom = Broom(_SWEEP)

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        """As the protocol says. Raises ValueError for a value above MAX_VALUE_BYTES, StoreError."""
        validate_value(value)

        def body(connection: sqlite3.Connection) -> bytes | None:
            self._broom.sweep_sometimes(connection, now)
            if connection.execute(_CLAIM, (key.encode(), value, expires_at, now)).rowcount == 1:
                return None
            holder: bytes = connection.execute(_HOLDER, (key.encode(),)).fetchone()[0]
            return holder

        return self._database.write(body)

    def replace(self, key: str, value: bytes, *, expect: bytes, now: float, expires_at: float) -> bool:
        """As the protocol says. Raises ValueError for a value above MAX_VALUE_BYTES, StoreError."""
        validate_value(value)
        return self._changes(_REPLACE, (value, expires_at, key.encode(), expect, now)) == 1

    def release(self, key: str, *, expect: bytes) -> bool:
        return self._changes(_RELEASE, (key.encode(), expect)) == 1

    def close(self) -> None:
        self._database.close()

    def _changes(self, statement: str, values: tuple[object, ...]) -> int:
        return self._database.write(lambda connection: connection.execute(statement, values).rowcount)
