"""The SQLite state store: the contract, and what is particular to SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from gramian.errors import ConditionFailed, StoreError
from gramian.ports import ABSENT, ANY, Check, Put
from gramian.testing.clock import FakeClock
from gramian.testing.state import StateStoreContract
from gramian_local import state as state_module
from gramian_local.state import SqliteStateStore


class TestSqliteStateStore(StateStoreContract):
    """The contract on SQLite."""

    @pytest.fixture
    def open_again(self, database_path, clock):
        opened = []

        def open_store():
            opened.append(SqliteStateStore(database_path, clock=clock))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_again):
        return open_again()


@pytest.fixture
def clock():
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def store(database_path, clock):
    with closing(SqliteStateStore(database_path, clock=clock)) as store:
        yield store


def _count_rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM items").fetchone()[0]


def test_expired_items_are_swept_with_later_writes(store, database_path, clock):
    """The file does not grow with what expired."""
    for start in range(0, 500, 25):
        store.write(*(Put("p", f"{number}", b"", expires_at=int(clock.now) + 1) for number in range(start, start + 25)))
    store.write(Put("p", "kept", b"", expires_at=int(clock.now) + 1000), Put("p", "forever", b""))
    assert _count_rows(database_path) == 502
    clock.advance(1)
    for _ in range(3 * 64):
        store.write(Put("p", "tick", b""))
    assert [key for key, _ in store.query("p")] == ["forever", "kept", "tick"]
    assert _count_rows(database_path) == 3


def test_queries_and_sweeps_use_indexes(store, database_path):
    """No statement looks at all rows of the table."""
    query, _ = state_module._range(b"prefix", b"after", reverse=True)
    with closing(sqlite3.connect(database_path)) as connection:
        for statement in (query, state_module._SWEEP, state_module._GET):
            arguments = [None] * statement.count("?")
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", arguments).fetchall()
            details = [row[-1] for row in plan]
            assert not any(detail.startswith("SCAN") or "TEMP B-TREE" in detail for detail in details), details


@pytest.mark.parametrize(("partition", "key"), [("", "key"), ("p", ""), ("p" * 2049, "key"), ("p", "é" * 513)])
def test_write_name_outside_dynamodb_limits_is_value_error(store, partition, key):
    """What works here must work there."""
    with pytest.raises(ValueError, match="bytes: 1 to"):
        store.write(Put(partition, key, b""))


def test_check_of_anything_is_value_error(store):
    """A Check that cannot fail is a mistake of the caller."""
    with pytest.raises(ValueError, match="ABSENT or a version"):
        store.write(Check("p", "key", ANY))


def test_query_negative_limit_is_value_error(store):
    """SQLite would take it for no limit."""
    with pytest.raises(ValueError, match="negative"):
        store.query("p", limit=-1)
    store.write(Put("p", "key", b""))
    assert store.query("p", limit=0) == []


def test_condition_failure_leaves_store_usable(store):
    """A rolled back group holds no lock and breaks no connection."""
    store.write(Put("p", "key", b"value"))
    for _ in range(3):
        with pytest.raises(ConditionFailed, match="changed by somebody else"):
            store.write(Put("p", "other", b""), Put("p", "key", b"", ABSENT))
    store.write(Put("p", "key", b"new"))
    assert store.get("p", "other") is None


def test_full_disk_is_store_error_and_keeps_what_was_written(store, file_size_limit):
    """Nothing is lost, nothing is half written, and with room again the store goes on."""
    store.write(Put("p", "before", b"kept"))
    file_size_limit(400_000)
    with pytest.raises(StoreError, match="free space"):  # noqa: PT012 (the write that fails is not known)
        for number in range(10):
            store.write(Put("p", f"a{number}", b"x" * 100_000), Put("p", f"b{number}", b"x" * 100_000))
    file_size_limit()
    keys = [key for key, _ in store.query("p")]
    assert "before" in keys
    assert {key[1:] for key in keys if key[0] == "a"} == {
        key[1:] for key in keys if key.startswith("b") and key != "before"
    }
    store.write(Put("p", "after", b"x" * 100_000))
    assert store.get("p", "after") is not None


def test_closed_store_is_store_error(database_path):
    """Closing twice is fine, using it afterwards is not."""
    store = SqliteStateStore(database_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.get("p", "key")
