"""State stores that are wrong in the ways in which state stores are wrong."""

from __future__ import annotations

import hashlib
import itertools
import time

from broken_publish import plugin
from msgspec.structs import replace

from gramian.errors import StoreError
from gramian.ports import ANY, Check, Item, Put
from gramian_local.state import SqliteStateStore


class IgnoresExpectations(SqliteStateStore):
    """Writes whatever the condition says."""

    def write(self, *writes):
        super().write(*(replace(write, expect=ANY) for write in writes if not isinstance(write, Check)))


class WritesOneByOne(SqliteStateStore):
    """Groups are not atomic."""

    def write(self, *writes):
        for number, write in enumerate(writes):
            time.sleep(0.05 * (number == 1))  # wide enough to be killed in between, on any machine
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


class LeavesExpiryToABroom(SqliteStateStore):
    """Expired items are there until something clears them away."""

    def __init__(self, path):
        super().__init__(path, clock=lambda: 0.0)


class CachesReads(SqliteStateStore):
    """Does not ask again what it has seen."""

    def __init__(self, path):
        super().__init__(path)
        self._seen = {}

    def get(self, partition, key):
        if (partition, key) not in self._seen:
            self._seen[partition, key] = super().get(partition, key)
        return self._seen[partition, key]

    def write(self, *writes):
        super().write(*writes)
        for write in writes:
            self._seen.pop((write.partition, write.key), None)


class CutsLargeValues(SqliteStateStore):
    """As a column with a limit of its own would."""

    def write(self, *writes):
        super().write(*(replace(w, value=w.value[:65_536]) if isinstance(w, Put) else w for w in writes))


class FoldsNames(SqliteStateStore):
    """A collation that takes case and accents for nothing."""

    def write(self, *writes):
        super().write(*(replace(write, key=write.key.lower()) for write in writes))

    def get(self, partition, key):
        return super().get(partition, key.lower())


class Empty:
    """Instead of an error."""

    def get(self, partition, key):
        return None

    def write(self, *writes): ...

    def close(self): ...


def _forgetful(home):
    """A database that cannot be reached has nothing in it."""
    try:
        return SqliteStateStore(home / "state.db")
    except StoreError:
        return Empty()


def _store(kind):
    return plugin("gramian_state_store", lambda home: kind(home / "state.db"))


forgets_in_an_outage = plugin("gramian_state_store", _forgetful)
_fresh = itertools.count()
ignores_expectations = _store(IgnoresExpectations)
writes_one_by_one = _store(WritesOneByOne)
version_is_content_hash = _store(VersionIsContentHash)
filters_after_limit = _store(FiltersAfterLimit)
orders_by_utf16 = _store(OrdersByUtf16)
leaves_expiry_to_a_broom = _store(LeavesExpiryToABroom)
caches_reads = _store(CachesReads)
cuts_large_values = _store(CutsLargeValues)
folds_names = _store(FoldsNames)
forgets_on_restart = plugin("gramian_state_store", lambda home: SqliteStateStore(home / f"{next(_fresh)}.db"))
