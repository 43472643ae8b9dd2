"""One SQLite file for all small state of a home: connections, schema, transactions, errors.

WAL with synchronous=FULL: a write that returned survives a power cut, and readers never wait for writers.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from gramian.errors import StoreError
from gramian.turns import TURNS
from gramian_local._files import create_file, store_errors
from gramian_local.writers import WRITERS, PendingWrite

T = TypeVar("T")

BUSY_TIMEOUT_S: Final = 10.0
"""How long to wait for other processes, unless told otherwise."""
_MAX_IDLE: Final = 16
_SWEEP_EVERY: Final = 64
_SWEEP_ROWS: Final = 200

# One tuple of statements per version of the file; user_version counts those applied. Keys are BLOBs of
# UTF-8, which SQLite compares byte by byte. Never edit a released entry: append one.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE items (
            partition BLOB NOT NULL,
            key BLOB NOT NULL,
            value BLOB NOT NULL,
            version TEXT NOT NULL,
            expires_at INTEGER,
            PRIMARY KEY (partition, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX items_expiry ON items (expires_at) WHERE expires_at IS NOT NULL",
        """CREATE TABLE tokens (
            key BLOB PRIMARY KEY NOT NULL,
            value BLOB NOT NULL,
            expires_at REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX tokens_expiry ON tokens (expires_at)",
    ),
)

_DAMAGED = "it is damaged: stop Gramian, keep a copy of the file, and restore a backup (or `sqlite3 FILE .recover`)"
_NOT_WRITABLE = "it cannot be written: check the owner and permissions of the home, and whether the disk is read-only"
_HELD = "another process held it for too long: try again, or find and end that process"
_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space, then try again",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write: check free space, file size limits and the disk's health",
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_BUSY: _HELD,
    sqlite3.SQLITE_LOCKED: _HELD,
}
_PRIMARY_CODE: Final = 0xFF
"""SQLite's extended result codes keep the primary one in the low byte."""


class Database:
    """Connections to one file, shared by the threads of this process; other processes may have it open too.

    A connection serves one thread at a time and goes back to a small pool, so threads that end leave none
    behind. Not to be carried across a fork.
    """

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open or create the file. Raises StoreError if it is unusable or of a newer version."""
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._writers = WRITERS.at(path.resolve())
        with store_errors(path):
            # Not by opening it: closing a descriptor would drop the locks that SQLite holds in this process.
            if not path.exists():
                create_file(path, b"")
        try:
            with self.reading() as connection:
                self._use_wal(connection)
                self._migrate(connection)
        except BaseException:
            self.close()
            raise

    def read(self, statement: str, values: Sequence[object]) -> list[Any]:
        """The rows of one query. As `reading`, without the cost of a context manager: most requests read a lot."""
        connection, broken = self._take(), True
        try:
            rows = connection.execute(statement, values).fetchall()
            broken = False
        except sqlite3.Error as error:
            if _code(error) == 0:
                raise
            raise self._translate(error) from error
        finally:
            self._give_back(connection, broken=broken)
        return rows

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for single statements; each sees everything committed before it."""
        connection = self._take()
        broken = False
        try:
            yield connection
        except sqlite3.Error as error:
            broken = True
            if _code(error) == 0:
                raise
            raise self._translate(error) from error
        finally:
            self._give_back(connection, broken=broken)

    def write(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """Run `body` in a transaction and return its result when that is durable; what it raises undoes it.

        The first of several waiting threads commits for all of them. Their bodies run one after the other, each on
        what those before it left.
        """
        mine = PendingWrite(body)
        self._writers.do(mine, self._commit)
        if mine.error is not None:
            raise mine.error
        result: T = mine.result
        return result

    def _commit(self, writes: list[PendingWrite]) -> None:
        if self._closed:
            # The others' stores may still be open: theirs to commit.
            raise self._is_closed()
        try:
            with self.writing() as connection:
                for write in writes:
                    write.attempt(connection)
        except (StoreError, sqlite3.Error) as error:
            for write in writes:
                write.error = error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a transaction that commits at the end, and rolls back on any exception."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                with TURNS.away():
                    connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # some SQLite errors have rolled back already
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close what is idle now, and what is in use when it comes back; later calls raise StoreError."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _is_closed(self) -> StoreError:
        return StoreError(f"The store {self._path} is closed.")

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise self._is_closed()
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _give_back(self, connection: sqlite3.Connection, *, broken: bool) -> None:
        with self._lock:
            if not broken and not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to WAL once. SQLite answers `busy` here without waiting when processes race."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            raise StoreError(f"Cannot use {self._path}: its disk lacks shared memory files. Use a local disk.")

    def _migrate(self, connection: sqlite3.Connection) -> None:
        """Bring the schema up to date; several processes may try at once."""
        if self._check_version(connection) == len(MIGRATIONS):
            return
        with self.writing() as writer:
            version = self._check_version(writer)
            for statement in itertools.chain.from_iterable(MIGRATIONS[version:]):
                writer.execute(statement)
            writer.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def _check_version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self._path} was written by a newer Gramian (format {version}, this one knows "
                f"{len(MIGRATIONS)}): upgrade Gramian, or use another home."
            )
        return version

    def _translate(self, error: sqlite3.Error) -> StoreError:
        remedy = _REMEDIES.get(_code(error), f"SQLite says: {error}")
        return StoreError(f"Cannot use {self._path}: {remedy}.")


class Broom:
    """Clears away a few expired rows with every 64th write, the first included.

    Nothing depends on it: expired rows are invisible at once. The rows of one sweep outnumber the writes
    between two, so the table cannot grow without bound.
    """

    def __init__(self, statement: str) -> None:
        """`statement` deletes expired rows and takes (now, most rows)."""
        self._statement = statement
        self._writes = itertools.count()

    def sweep_sometimes(self, connection: sqlite3.Connection, now: float) -> None:
        if next(self._writes) % _SWEEP_EVERY == 0:
            connection.execute(self._statement, (now, _SWEEP_ROWS))


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for misuse that the Python module found itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY_CODE
