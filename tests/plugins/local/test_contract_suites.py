"""The contract suites catch stores that are wrong in the ways stores are wrong."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import replace

import pytest

from gramian.ports import ANY, Check, Item
from gramian.testing.blobs import BlobStoreContract
from gramian.testing.clock import FakeClock
from gramian.testing.state import StateStoreContract
from gramian.testing.tokens import TokenStoreContract
from gramian_local.blobs import FileBlobStore
from gramian_local.state import SqliteStateStore
from gramian_local.tokens import SqliteTokenStore

NOW = 1_800_000_000.0
REJECTED = (AssertionError, pytest.fail.Exception)
"""How a suite says no: a plain assert, or `pytest.raises` that saw no error."""


class IgnoresExpectations(SqliteStateStore):
    """Writes whatever the condition says."""

    def write(self, *writes):
        super().write(*(replace(write, expect=ANY) for write in writes if not isinstance(write, Check)))


class WritesOneByOne(SqliteStateStore):
    """Groups are not atomic."""

    def write(self, *writes):
        for write in writes:
            super().write(write)


class VersionIsContentHash(SqliteStateStore):
    """The version comes back with the content."""

    def get(self, partition, key):
        item = super().get(partition, key)
        return item and Item(item.value, hashlib.sha256(item.value).hexdigest())


class FiltersAfterLimit(SqliteStateStore):
    """Takes a page first and drops what does not match afterwards, as a naive DynamoDB query does."""

    def query(self, partition, prefix="", *, after="", limit=None, reverse=False):
        page = super().query(partition, after=after, limit=limit, reverse=reverse)
        return [(key, item) for key, item in page if key.startswith(prefix)]


class OrdersByUtf16(SqliteStateStore):
    """Sorts as some other languages compare strings."""

    def query(self, partition, prefix="", *, after="", limit=None, reverse=False):
        page = super().query(partition, prefix, after=after, limit=limit, reverse=reverse)
        return sorted(page, key=lambda pair: pair[0].encode("utf-16-be"), reverse=reverse)


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        (IgnoresExpectations, "test_put_absent_on_present_item_fails"),
        (IgnoresExpectations, "test_put_with_stale_version_fails"),
        (IgnoresExpectations, "test_delete_with_version_removes_only_that_version"),
        (IgnoresExpectations, "test_group_with_failed_check_applies_nothing"),
        (IgnoresExpectations, "test_put_absent_from_many_threads_has_one_winner"),
        (WritesOneByOne, "test_group_with_failed_check_applies_nothing"),
        (VersionIsContentHash, "test_versions_differ_after_every_write_and_never_come_back"),
        (FiltersAfterLimit, "test_query_after_continues_where_a_page_ended"),
        (OrdersByUtf16, "test_query_orders_by_utf8_bytes"),
    ],
)
def test_state_suite_rejects_wrong_store(database_path, wrong, test):
    """And the right store passes the very same call."""
    suite = StateStoreContract()
    arguments = {"reverse": False} if "continues" in test else {}
    with closing(wrong(database_path, clock=FakeClock(NOW))) as store, pytest.raises(REJECTED):
        getattr(suite, test)(store, "wrong", **arguments)
    with closing(SqliteStateStore(database_path, clock=FakeClock(NOW))) as store:
        getattr(suite, test)(store, "right", **arguments)


class ClocklessStore(SqliteStateStore):
    """Leaves expiry to a broom that has not come yet."""

    def __init__(self, path, *, clock):
        super().__init__(path, clock=lambda: 0.0)


@pytest.mark.parametrize(
    "test",
    [
        "test_expired_item_is_invisible_at_once",
        "test_expired_item_counts_as_absent_in_conditions",
        "test_query_limit_counts_live_items_only",
    ],
)
def test_state_suite_rejects_store_without_expiry(database_path, test):
    """Expiry is part of the conditions, not of cleaning up."""
    clock = FakeClock(NOW)
    with closing(ClocklessStore(database_path, clock=clock)) as store, pytest.raises(REJECTED):
        getattr(StateStoreContract(), test)(store, "p", clock)


def test_state_suite_rejects_store_that_forgets(tmp_path):
    """A store whose second instance starts empty."""
    suite, paths = StateStoreContract(), iter(tmp_path / f"{number}.db" for number in range(10))
    opened = []

    def open_store():
        opened.append(SqliteStateStore(next(paths)))
        return opened[-1]

    for test in (suite.test_items_survive_reopening, suite.test_second_instance_sees_writes_at_once):
        with pytest.raises(REJECTED):
            test(open_store(), open_store, "p")
    for store in opened:
        store.close()


class LetsEveryoneClaim(SqliteTokenStore):
    """Looks first and claims afterwards: right for one thread, wrong for two."""

    def claim(self, key, value, *, now, expires_at):
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT value FROM tokens WHERE key = ? AND expires_at > ?", (key.encode(), now)
            ).fetchone()
        if row is not None:
            return row[0]
        time.sleep(0.02)  # wide enough for another thread to look, on any machine
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", (key.encode(), value, expires_at))
        return None


class NeverExpires(SqliteTokenStore):
    """Waits for a broom before a claim can be taken again."""

    def claim(self, key, value, *, now, expires_at):
        return super().claim(key, value, now=0, expires_at=expires_at)


class ReleasesForAnyone(SqliteTokenStore):
    """Gives up a claim whoever asks."""

    def release(self, key, *, expect):
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM tokens WHERE key = ?", (key.encode(),)).rowcount == 1


def test_token_suite_rejects_wrong_stores(database_path):
    """Two winners, no expiry, release by strangers."""
    suite = TokenStoreContract()
    with closing(LetsEveryoneClaim(database_path)) as store, pytest.raises(REJECTED):
        suite.test_claim_from_many_threads_has_one_winner(store, lambda: store, "two winners", NOW)
    with closing(NeverExpires(database_path)) as store, pytest.raises(REJECTED):
        suite.test_expired_claim_can_be_taken(store, "no expiry", NOW)
    with closing(ReleasesForAnyone(database_path)) as store, pytest.raises(REJECTED):
        suite.test_release_otherwise_changes_nothing(store, "strangers", NOW)


class OneSpaceForAll(FileBlobStore):
    """Ignores the space: a tenant could read another's blobs."""

    def _space(self, space):
        return self._root / "0"


class KeepsFirstTime(FileBlobStore):
    """Skips the write when the blob is there, and with it the new time."""

    def put(self, space, data):
        path = self._path(space, digest := hashlib.sha256(data).hexdigest())
        return digest if path.exists() else super().put(space, data)


def test_blob_suite_rejects_wrong_stores(tmp_path):
    """Shared spaces, and a time that is not refreshed."""
    suite = BlobStoreContract()
    suite.time_resolution_s = 0.02
    with pytest.raises(AssertionError):
        suite.test_put_again_refreshes_modified_at(KeepsFirstTime(tmp_path), "aa")
    with pytest.raises(REJECTED):
        suite.test_spaces_are_isolated(OneSpaceForAll(tmp_path), "bb")
