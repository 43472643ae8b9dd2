"""The SQLite token store: the contract, sweeping, and sharing the state store's file."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from gramian.ports import MAX_VALUE_BYTES, Put
from gramian.testing.tokens import TokenStoreContract
from gramian_local.state import SqliteStateStore
from gramian_local.tokens import SqliteTokenStore


class TestSqliteTokenStore(TokenStoreContract):
    """The contract on SQLite."""

    @pytest.fixture
    def open_again(self, database_path):
        opened = []

        def open_store():
            opened.append(SqliteTokenStore(database_path))
            return opened[-1]

        yield open_store
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, open_again):
        return open_again()


@pytest.fixture
def store(database_path):
    with closing(SqliteTokenStore(database_path)) as store:
        yield store


def test_expired_claims_are_swept_with_later_claims(store, database_path):
    """The file does not grow with every request ever seen; live claims stay."""
    store.claim("live", b"held", now=0, expires_at=1e6)
    for number in range(640):
        store.claim(f"seen{number}", b"", now=number, expires_at=number + 10)
    with closing(sqlite3.connect(database_path)) as connection:
        rows = connection.execute("SELECT count(*) FROM tokens").fetchone()[0]
    assert rows < 10 + 64 + 2
    assert store.claim("live", b"late", now=700, expires_at=800) == b"held"


def test_value_beyond_limit_is_value_error(store):
    """What DynamoDB could not hold is refused here too, and nothing is claimed or replaced."""
    large = b"x" * (MAX_VALUE_BYTES + 1)
    with pytest.raises(ValueError, match="bytes"):
        store.claim("key", large, now=0, expires_at=1)
    assert store.claim("key", b"held", now=0, expires_at=1) is None
    with pytest.raises(ValueError, match="bytes"):
        store.replace("key", large, expect=b"held", now=0, expires_at=1)


def test_tokens_and_items_share_a_file(store, database_path):
    """One database per home, whichever store opens it first."""
    with closing(SqliteStateStore(database_path)) as state:
        state.write(Put("p", "key", b"item"))
        assert store.claim("key", b"token", now=0, expires_at=1) is None
        item = state.get("p", "key")
    assert item is not None
    assert item.value == b"item"
