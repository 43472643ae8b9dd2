"""State store on SQLite: conditional writes, atomic groups, ordered queries."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gramian.errors import ConditionFailed
from gramian.ports import ABSENT, ANY, Check, Delete, Item, Put, StateStore, Write
from gramian.writes import validate
from gramian_local.database import BUSY_TIMEOUT_S, Broom, Database

_VERSION_BYTES: Final = 16

_GET = "SELECT value, version FROM items WHERE partition = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)"
_VERSION = "SELECT version FROM items WHERE partition = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)"
_PUT = "INSERT OR REPLACE INTO items (partition, key, value, version, expires_at) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM items WHERE partition = ? AND key = ?"
_SWEEP = """DELETE FROM items WHERE (partition, key) IN
            (SELECT partition, key FROM items WHERE expires_at <= ? LIMIT ?)"""


class SqliteStateStore(StateStore):
    """`gramian.ports.StateStore` in a SQLite file that threads and processes of one machine share."""

    def __init__(
        self, path: Path | str, *, clock: Callable[[], float] = time.time, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        """Open or create the file. `clock` gives unix seconds. Raises StoreError."""
        self._database = Database(Path(path), busy_timeout_s)
        self._clock = clock
        self._broom = Broom(_SWEEP)

    def get(self, partition: str, key: str) -> Item | None:
        rows = self._database.read(_GET, (partition.encode(), key.encode(), self._clock()))
        return Item(*rows[0]) if rows else None

    def write(self, *writes: Write) -> None:
        validate(writes)
        if writes:
            self._database.write(lambda connection: self._apply_all(connection, writes))

    def query(
        self, partition: str, prefix: str = "", *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[tuple[str, Item]]:
        """As the protocol says; with `reverse`, "past `after`" means keys below it."""
        if limit is not None and limit < 0:
            raise ValueError("limit must not be negative")
        statement, bounds = _range(prefix.encode(), after.encode(), reverse=reverse)
        values = (partition.encode(), self._clock(), *bounds, -1 if limit is None else limit)
        rows = self._database.read(statement, values)
        return [(key.decode(), Item(value, version)) for key, value, version in rows]

    def close(self) -> None:
        self._database.close()

    def _apply_all(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
        # Read here, not before the wait for the lock: what expired meanwhile is gone.
        now = self._clock()
        for write in writes:
            _require(connection, write, now)
            _apply(connection, write)
        self._broom.sweep_sometimes(connection, now)


def _require(connection: sqlite3.Connection, write: Write, now: float) -> None:
    """Raise ConditionFailed, which rolls the group back, unless the item is as `write` expects."""
    if write.expect == ANY:
        return
    row = connection.execute(_VERSION, (write.partition.encode(), write.key.encode(), now)).fetchone()
    version = ABSENT if row is None else row[0]
    if version != write.expect:
        raise ConditionFailed(f"{write.partition} {write.key} was changed by somebody else: read it and try again.")


def _apply(connection: sqlite3.Connection, write: Write) -> None:
    name = (write.partition.encode(), write.key.encode())
    match write:
        case Put(value=value, expires_at=expires_at):
            connection.execute(_PUT, (*name, value, secrets.token_hex(_VERSION_BYTES), expires_at))
        case Delete():
            connection.execute(_DELETE, name)
        case Check():
            pass


def _range(prefix: bytes, after: bytes, *, reverse: bool) -> tuple[str, list[bytes]]:
    """SQL and bounds for a walk over the primary key: no pattern, so % and _ are ordinary letters."""
    conditions = ["partition = ?", "(expires_at IS NULL OR expires_at > ?)"]
    bounds = []
    if prefix:
        # UTF-8 never contains 0xFF: the upper bound lies past every key with the prefix.
        conditions += ["key >= ?", "key < ?"]
        bounds += [prefix, prefix + b"\xff"]
    if after:
        conditions.append("key < ?" if reverse else "key > ?")
        bounds.append(after)
    order = "DESC" if reverse else "ASC"
    where = " AND ".join(conditions)
    statement = f"SELECT key, value, version FROM items WHERE {where} ORDER BY key {order} LIMIT ?"  # noqa: S608 (fixed parts)
    return statement, bounds
