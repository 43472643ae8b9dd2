"""Threads that write the same SQLite file share commits, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from functools import partial

import pytest

from gramian.errors import ConditionFailed, StoreError
from gramian_local.database import Database

INSERT = "INSERT INTO tokens VALUES (?, x'', 0)"


@pytest.fixture
def database(database_path):
    with closing(Database(database_path)) as opened:
        yield opened


def insert(key: bytes):
    return lambda connection: connection.execute(INSERT, (key,)).rowcount


def keys(database: Database) -> set[bytes]:
    with database.reading() as connection:
        return {key for (key,) in connection.execute("SELECT key FROM tokens")}


@pytest.fixture
def queued(database, at_once):
    """Futures of writes that all wait in the given order until the block ends."""
    return lambda *bodies: at_once(database._writers, *(partial(database.write, body) for body in bodies))


def test_waiting_writes_share_one_commit(database, queued, monkeypatch):
    """The fsync of a commit is what a small write costs."""
    commits = []
    commit = database._commit
    monkeypatch.setattr(database, "_commit", lambda writes: (commits.append(len(writes)), commit(writes)))
    names = [b"%d" % number for number in range(8)]
    with queued(*map(insert, names)) as futures:
        pass
    assert [future.result() for future in futures] == [1] * 8
    assert commits == [8]
    assert keys(database) == set(names)


def test_refused_write_undoes_its_own_changes_only(database, queued):
    """A condition that does not hold is the caller's business, not that of those who happen to wait with it."""

    def refused(connection):
        insert(b"refused")(connection)
        raise ConditionFailed("changed by somebody else")

    with queued(insert(b"before"), refused, insert(b"after")) as (before, failed, after):
        pass
    assert (before.result(), after.result()) == (1, 1)
    with pytest.raises(ConditionFailed):
        failed.result()
    assert keys(database) == {b"before", b"after"}


def test_later_write_sees_what_an_earlier_one_left(database, queued):
    """As if each had had its own transaction."""

    def count(connection):
        return connection.execute("SELECT count(*) FROM tokens").fetchone()[0]

    with queued(insert(b"one"), count, insert(b"two"), count) as (_, first, _, second):
        pass
    assert (first.result(), second.result()) == (1, 2)


def test_trouble_of_the_store_reaches_all_who_wait(database, queued):
    """Nobody is told that a write holds which was rolled back."""

    def fill(connection):
        connection.execute("PRAGMA max_page_count = 10")
        connection.execute("INSERT INTO tokens VALUES (x'00', zeroblob(100000), 0)")

    with queued(insert(b"bystander"), fill) as futures:
        pass
    for future in futures:
        with pytest.raises(StoreError, match="disk is full"):
            future.result()
    assert keys(database) == set()


def test_interrupted_thread_leaves_the_others_writes_to_the_next(database, queued):
    """Ctrl-C in the thread that commits, whosever writes it commits, does not lose what others wait for."""

    class Interrupted(BaseException):
        pass

    interruptions = iter([Interrupted])

    def interrupt(connection):
        for kind in interruptions:
            raise kind
        return insert(b"interrupted")(connection)

    with queued(interrupt, insert(b"other")) as both:
        pass
    assert [type(each.exception()) for each in both].count(Interrupted) == 1
    assert b"other" in keys(database)


def test_stores_of_one_file_share_its_queue(database_path):
    """State and tokens stand in one file, and SQLite would let their writers poll for each other."""
    with closing(Database(database_path)) as one, closing(Database(database_path)) as two:
        assert one._writers is two._writers
        race = [threading.Thread(target=each.write, args=(insert(name),)) for each, name in ((one, b"1"), (two, b"2"))]
        for thread in race:
            thread.start()
        for thread in race:
            thread.join()
        assert keys(one) == {b"1", b"2"}
    with closing(sqlite3.connect(database_path)) as connection:
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (2,)
