"""The SQLite file below the stores: connections, versions, and errors that say what to do."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest

from gramian.errors import StoreError
from gramian.ports import Put
from gramian.testing.state import race
from gramian_local import database as database_module
from gramian_local.database import MIGRATIONS, Database
from gramian_local.state import SqliteStateStore


def _descriptors(path):
    """How many descriptors of this process point to the database file itself."""
    return sum(Path(file.path) == path for file in psutil.Process().open_files())


def test_database_is_durable_and_private(database_path):
    """WAL, an fsync per commit, and files that only the owner reads, whatever the umask."""
    with closing(SqliteStateStore(database_path)) as store:
        store.write(Put("p", "key", b"value"))
        with store._database.reading() as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in database_path.parent.glob("gramian.db*")}
    assert modes == {0o600}


def test_threads_that_end_leave_no_connections(database_path):
    """A WSGI server may start a thread per request."""
    with closing(SqliteStateStore(database_path)) as store:
        race(20, lambda number: store.write(Put("p", f"{number}", b"")))
        after_crowd = _descriptors(database_path)
        for _ in range(50):
            thread = threading.Thread(target=store.get, args=("p", "1"))
            thread.start()
            thread.join()
        assert _descriptors(database_path) <= after_crowd <= 16
    assert _descriptors(database_path) == 0


def test_crowds_of_readers_leave_few_connections(database_path):
    """A burst is served at once; most of its connections close, and a later one takes up no more descriptors."""
    with closing(Database(database_path)) as database:
        for _ in range(3):
            with ExitStack() as stack:
                for _ in range(40):
                    stack.enter_context(database.reading())
            assert len(database._idle) <= 16
            # SQLite keeps descriptors of closed connections while others are open, and uses them again.
            assert _descriptors(database_path) <= 40
    assert _descriptors(database_path) == 0


def test_close_while_in_use_closes_connection_when_it_comes_back(database_path):
    """No connection outlives the store by being in use."""
    database = Database(database_path)
    with database.reading() as connection:
        database.close()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert _descriptors(database_path) == 0


def test_opening_from_many_threads_creates_one_schema(database_path):
    """A new home may be opened by several at the same moment."""
    for database in race(8, lambda _: Database(database_path)):
        with database.reading() as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        database.close()


def test_newer_file_is_refused(database_path):
    """An old Gramian must not write what it does not understand."""
    Database(database_path).close()
    with closing(sqlite3.connect(database_path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"newer Gramian \(format 99, this one knows \d+\): upgrade"):
        Database(database_path)


def test_older_file_is_migrated_with_its_data(database_path, monkeypatch):
    """Only the missing steps run."""
    with closing(SqliteStateStore(database_path)) as store:
        store.write(Put("p", "key", b"value"))
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, ("CREATE TABLE later (x)",)))
    with closing(SqliteStateStore(database_path)) as store:
        item = store.get("p", "key")
        with store._database.reading() as connection:
            assert connection.execute("SELECT count(*) FROM later").fetchone() == (0,)
    assert item is not None


def test_failed_migration_leaves_file_as_it_was(database_path, monkeypatch):
    """All steps of an upgrade or none."""
    Database(database_path).close()
    broken = (*MIGRATIONS, ("CREATE TABLE later (x)", "CREATE TABLE items (x)"))
    monkeypatch.setattr(database_module, "MIGRATIONS", broken)
    with pytest.raises(StoreError, match="already exists"):
        Database(database_path)
    monkeypatch.undo()
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchone() is None
    Database(database_path).close()


def test_full_disk_says_so(database_path):
    """SQLite's own answer to a full disk; the transaction is undone."""

    def fill(database):
        with database.writing() as connection:
            connection.execute("PRAGMA max_page_count = 10")
            connection.execute("INSERT INTO tokens VALUES (x'00', zeroblob(100000), 0)")

    with closing(Database(database_path)) as database:
        with pytest.raises(StoreError, match="disk is full: free some space") as caught:
            fill(database)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        with database.writing() as connection:
            connection.execute("INSERT INTO tokens VALUES (x'01', x'', 0)")
            assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (1,)


@pytest.mark.parametrize("offset", [0, 4096])
def test_damaged_file_says_so(database_path, offset):
    """Whether the header or only the tables are overwritten."""
    with closing(SqliteStateStore(database_path)) as store:
        store.write(Put("p", "key", b"value"))
    content = database_path.read_bytes()
    database_path.write_bytes(content[:offset] + b"\xff" * (len(content) - offset))
    with pytest.raises(StoreError, match=r"damaged: stop Gramian"), closing(SqliteStateStore(database_path)) as store:
        store.get("p", "key")


def test_locked_file_says_so(database_path):
    """Another process that holds the write lock for too long; readers are not in its way."""
    store = SqliteStateStore(database_path, busy_timeout_s=0.05)
    with closing(store), closing(sqlite3.connect(database_path)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert store.get("p", "key") is None
        with pytest.raises(StoreError, match="another process held it"):
            store.write(Put("p", "key", b"value"))
        holder.rollback()
        store.write(Put("p", "key", b"value"))


def test_read_only_home_says_so(unprivileged_path):
    """A home on a disk that may not be written."""
    path = unprivileged_path / "gramian.db"
    with closing(SqliteStateStore(path)) as store:
        store.write(Put("p", "key", b"value"))
    path.chmod(0o400)
    unprivileged_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        SqliteStateStore(path)


def test_missing_directory_says_so(tmp_path):
    """The home is made by `open_home`, not by the store."""
    with pytest.raises(StoreError, match="No such file"):
        Database(tmp_path / "absent" / "gramian.db")
