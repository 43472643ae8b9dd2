"""The database is a SQLite file here, so that everything works as it stands: put yours in its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gramian.errors import StoreError

# The expiry is part of the conditions: a claim is free again at the moment when it expires, cleared away or not.
_TABLE = "CREATE TABLE IF NOT EXISTS tokens (key BLOB PRIMARY KEY, value BLOB, expires_at REAL)"
_CLAIM = """INSERT INTO tokens VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE
    SET value = excluded.value, expires_at = excluded.expires_at WHERE tokens.expires_at <= ?"""
_REPLACE = "UPDATE tokens SET value = ?, expires_at = ? WHERE key = ? AND value = ? AND expires_at > ?"


class AcmeTokenStore:
    """`gramian.ports.TokenStore` for any number of threads and processes."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Raises StoreError."""
        self._path = path
        self._timeout_s = timeout_s
        with self._transaction() as database:
            database.execute(_TABLE)

    def claim(self, key: str, value: bytes, *, now: float, expires_at: float) -> bytes | None:
        with self._transaction() as database:
            if database.execute(_CLAIM, (key.encode(), value, expires_at, now)).rowcount == 1:
                return None
            row = database.execute("SELECT value FROM tokens WHERE key = ?", (key.encode(),)).fetchone()
        holder: bytes = row[0]
        return holder

    def replace(self, key: str, value: bytes, *, expect: bytes, now: float, expires_at: float) -> bool:
        with self._transaction() as database:
            return database.execute(_REPLACE, (value, expires_at, key.encode(), expect, now)).rowcount == 1

    def release(self, key: str, *, expect: bytes) -> bool:
        with self._transaction() as database:
            statement = "DELETE FROM tokens WHERE key = ? AND value = ?"
            return database.execute(statement, (key.encode(), expect)).rowcount == 1

    def close(self) -> None:
        """Every call has a connection of its own."""

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it happens or nothing; the database's own errors become Gramian's."""
        try:
            with closing(sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None)) as database:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"the store {self._path} cannot be used: {error}") from error
