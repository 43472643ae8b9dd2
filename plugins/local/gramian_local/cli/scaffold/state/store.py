"""The database is a SQLite file here, so that everything works as it stands: put yours in its place."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from gramian.errors import ConditionFailed, StoreError
from gramian.ports import (
    ABSENT,
    ANY,
    MAX_GROUP_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTITION_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    Check,
    Delete,
    Item,
    Put,
    Write,
)

# Keys are bytes: they are ordered by bytes, and no letter means anything to a LIKE.
_TABLE = """CREATE TABLE IF NOT EXISTS items (partition BLOB, key BLOB, value BLOB, version TEXT, expires_at INTEGER,
    PRIMARY KEY (partition, key))"""
_LIVE = "partition = ? AND (expires_at IS NULL OR expires_at > ?)"


class AcmeStateStore:
    """`gramian.ports.StateStore` for any number of threads and processes."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Raises StoreError."""
        self._path = path
        self._timeout_s = timeout_s
        with self._transaction() as database:
            database.execute(_TABLE)

    def get(self, partition: str, key: str) -> Item | None:
        query = f"SELECT value, version FROM items WHERE {_LIVE} AND key = ?"
        with self._transaction() as database:
            row = database.execute(query, (partition.encode(), time.time(), key.encode())).fetchone()
        return None if row is None else Item(*row)

    def write(self, *writes: Write) -> None:
        _check_limits(writes)
        with self._transaction() as database:
            for write in writes:
                _require(database, write)
                _apply(database, write)

    def query(
        self, partition: str, prefix: str = "", *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, Item]]:
        beyond, order = ("<", "DESC") if reverse else (">", "ASC")
        # UTF-8 never contains 0xFF, so the upper bound lies past every key with the prefix.
        bounds: list[object] = [partition.encode(), time.time(), prefix.encode(), prefix.encode() + b"\xff"]
        where = f"{_LIVE} AND key >= ? AND key < ?"
        if after:
            where += f" AND key {beyond} ?"
            bounds.append(after.encode())
        query = f"SELECT key, value, version FROM items WHERE {where} ORDER BY key {order} LIMIT ?"
        with self._transaction() as database:
            rows = database.execute(query, (*bounds, -1 if limit is None else limit)).fetchall()
        return [(key.decode(), Item(value, version)) for key, value, version in rows]

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


def _check_limits(writes: Sequence[Write]) -> None:
    """Raises ValueError: what fails elsewhere fails here too."""
    if len(writes) > MAX_WRITES or len({(write.partition, write.key) for write in writes}) < len(writes):
        raise ValueError(f"a group has at most {MAX_WRITES} writes, and each item once")
    sizes = [len(write.value) for write in writes if isinstance(write, Put)]
    if max(sizes, default=0) > MAX_VALUE_BYTES or sum(sizes) > MAX_GROUP_BYTES:
        raise ValueError(f"a value has at most {MAX_VALUE_BYTES} bytes, a group {MAX_GROUP_BYTES}")
    for write in writes:
        if not 0 < len(write.partition.encode()) <= MAX_PARTITION_BYTES:
            raise ValueError(f"a partition has 1 to {MAX_PARTITION_BYTES} bytes")
        if not 0 < len(write.key.encode()) <= MAX_KEY_BYTES:
            raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes")
        if isinstance(write, Check) and write.expect == ANY:
            raise ValueError("a Check expects ABSENT or a version")


def _require(database: sqlite3.Connection, write: Write) -> None:
    """Raises ConditionFailed, which undoes the whole group."""
    if write.expect == ANY:
        return
    query = f"SELECT version FROM items WHERE {_LIVE} AND key = ?"
    row = database.execute(query, (write.partition.encode(), time.time(), write.key.encode())).fetchone()
    if (ABSENT if row is None else row[0]) != write.expect:
        raise ConditionFailed(f"{write.partition} {write.key} was changed by somebody else: read it and try again")


def _apply(database: sqlite3.Connection, write: Write) -> None:
    place = (write.partition.encode(), write.key.encode())
    if isinstance(write, Put):
        # Random: a version never comes back, not even for the same value.
        row = (*place, write.value, secrets.token_hex(16), write.expires_at)
        database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", row)
    elif isinstance(write, Delete):
        database.execute("DELETE FROM items WHERE partition = ? AND key = ?", place)
