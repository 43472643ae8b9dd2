"""Contract of `gramian.ports.StateStore`. Subclass, name the class `Test...`, and provide the fixtures.

    class TestMyStore(StateStoreContract):
        @pytest.fixture
        def open_again(self, clock): ...   # () -> another store on the same data, told the time by `clock`
        @pytest.fixture
        def store(self, open_again): return open_again()

A store that talks to a server may keep its data between tests: each test uses a partition of its own.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

import pytest

from gramian.errors import ConditionFailed
from gramian.ports import (
    ABSENT,
    MAX_GROUP_BYTES,
    MAX_KEY_BYTES,
    MAX_PARTITION_BYTES,
    MAX_VALUE_BYTES,
    MAX_WRITES,
    Check,
    Delete,
    Put,
    StateStore,
)
from gramian.testing.clock import Clock, FakeClock
from gramian.testing.outages import StateStoreOutage
from gramian.testing.state_queries import StateQueries
from gramian.testing.worker import count

OpenStateStore: TypeAlias = Callable[[], StateStore]
T = TypeVar("T")


class StateStoreContract(StateQueries, StateStoreOutage):
    """What every state store does. See the module for how to use it."""

    threads = 12
    """How many threads race in the tests of concurrency."""
    expiry_s = 10
    """When items expire that must; at least 3."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The store's clock: whole seconds near the real time, which servers with their own broom insist on."""
        return FakeClock(float(int(time.time())))

    @pytest.fixture
    def open_again(self, clock: Clock) -> OpenStateStore:
        raise NotImplementedError("provide `open_again`: a function that opens another store on the same data")

    @pytest.fixture
    def store(self, open_again: OpenStateStore) -> StateStore:
        raise NotImplementedError("provide `store`: a store that the other tests' data does not disturb")

    @pytest.fixture
    def partition(self, open_again: OpenStateStore) -> Iterator[str]:
        """One that is empty, and is emptied when the test ends."""
        name = f"contract-{uuid.uuid4().hex}"
        yield name
        cleaner = open_again()
        for each in (name, f"{name}-other", f"{name}/a", name.ljust(MAX_PARTITION_BYTES, "p")):
            for key, _ in cleaner.query(each):
                cleaner.write(Delete(each, key))

    # Values and versions

    def test_get_absent_gives_none(self, store: StateStore, partition: str) -> None:
        """Nothing was written, nothing is read."""
        assert store.get(partition, "absent") is None

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"x" * 300_000, b"y" * MAX_VALUE_BYTES])
    def test_put_any_size_gives_same_bytes(self, store: StateStore, partition: str, value: bytes) -> None:
        """Values are bytes, up to the limit and including none at all."""
        store.write(Put(partition, "key", value))
        assert _value(store, partition, "key") == value

    def test_put_again_replaces_value(self, store: StateStore, partition: str) -> None:
        """ANY writes over what is there."""
        store.write(Put(partition, "key", b"old"))
        store.write(Put(partition, "key", b"new"))
        assert _value(store, partition, "key") == b"new"

    def test_same_key_in_other_partition_is_another_item(self, store: StateStore, partition: str) -> None:
        """Partition and key are kept apart, however they are put together inside."""
        store.write(Put(partition, "a/b", b"1"), Put(f"{partition}/a", "b", b"2"), Put(partition, "ab", b"3"))
        assert _value(store, partition, "a/b") == b"1"
        assert _value(store, f"{partition}/a", "b") == b"2"
        assert [key for key, _ in store.query(partition)] == ["a/b", "ab"]

    def test_versions_differ_after_every_write_and_never_come_back(self, store: StateStore, partition: str) -> None:
        """Not even for the same value, and not after the item was removed and made anew."""
        seen = []
        for _ in range(4):
            store.write(Put(partition, "key", b"same"))
            seen.append(_version(store, partition, "key"))
            store.write(Put(partition, "key", b"same"))
            seen.append(_version(store, partition, "key"))
            store.write(Delete(partition, "key"))
        assert len(set(seen)) == len(seen)
        store.write(Put(partition, "key", b"same"))
        for version in seen:
            with pytest.raises(ConditionFailed):
                store.write(Put(partition, "key", b"stale", version))

    def test_names_of_any_letters_are_kept_apart(self, store: StateStore, partition: str) -> None:
        """Unicode, separators, dots, quotes, letters that look alike: names are what they are, to the code point."""
        names = [
            "\u00e9",
            "e\u0301",
            "\U0001f600",
            "a b",
            "a/b",
            "../a",
            ".",
            "#",
            "'\"",
            "\\",
            "a\n",
            "A",
            "a",
            "\u212b",
        ]
        store.write(*(Put(partition, name, name.encode()) for name in names))
        assert {key: item.value for key, item in store.query(partition)} == {name: name.encode() for name in names}
        assert [_value(store, partition, name) for name in names] == [name.encode() for name in names]

    # Conditions

    def test_put_absent_on_present_item_fails(self, store: StateStore, partition: str) -> None:
        """ABSENT never overwrites."""
        store.write(Put(partition, "key", b"first", ABSENT))
        with pytest.raises(ConditionFailed):
            store.write(Put(partition, "key", b"second", ABSENT))
        assert _value(store, partition, "key") == b"first"

    def test_put_with_current_version_writes(self, store: StateStore, partition: str) -> None:
        """The version just read is the one to expect."""
        store.write(Put(partition, "key", b"old"))
        store.write(Put(partition, "key", b"new", _version(store, partition, "key")))
        assert _value(store, partition, "key") == b"new"

    def test_put_with_stale_version_fails(self, store: StateStore, partition: str) -> None:
        """Somebody else wrote in between: their value stays."""
        store.write(Put(partition, "key", b"old"))
        stale = _version(store, partition, "key")
        store.write(Put(partition, "key", b"theirs"))
        with pytest.raises(ConditionFailed):
            store.write(Put(partition, "key", b"ours", stale))
        assert _value(store, partition, "key") == b"theirs"

    def test_put_with_version_on_absent_item_fails(self, store: StateStore, partition: str) -> None:
        """A version expects an item."""
        store.write(Put(partition, "key", b"old"))
        version = _version(store, partition, "key")
        store.write(Delete(partition, "key"))
        with pytest.raises(ConditionFailed):
            store.write(Put(partition, "key", b"new", version))
        assert store.get(partition, "key") is None

    def test_delete_absent_item_is_fine(self, store: StateStore, partition: str) -> None:
        """Removing twice is as good as once."""
        store.write(Put(partition, "key", b"value"))
        store.write(Delete(partition, "key"))
        store.write(Delete(partition, "key"))
        assert store.get(partition, "key") is None

    def test_delete_with_version_removes_only_that_version(self, store: StateStore, partition: str) -> None:
        """A stale version removes nothing, the current one does, and on an absent item a version fails."""
        store.write(Put(partition, "key", b"old"))
        stale = _version(store, partition, "key")
        store.write(Put(partition, "key", b"new"))
        with pytest.raises(ConditionFailed):
            store.write(Delete(partition, "key", stale))
        current = _version(store, partition, "key")
        store.write(Delete(partition, "key", current))
        assert store.get(partition, "key") is None
        with pytest.raises(ConditionFailed):
            store.write(Delete(partition, "key", current))

    # Groups

    def test_group_applies_all_writes(self, store: StateStore, partition: str) -> None:
        """A full group of puts, deletes and checks over two partitions."""
        other = f"{partition}-other"
        store.write(Put(partition, "gone", b""), Put(other, "kept", b"kept"))
        puts = [Put(partition, f"key{number:02}", b"%d" % number) for number in range(MAX_WRITES - 3)]
        store.write(
            *puts,
            Delete(partition, "gone"),
            Check(other, "kept", _version(store, other, "kept")),
            Check(other, "absent", ABSENT),
        )
        assert [(key, item.value) for key, item in store.query(partition)] == [(put.key, put.value) for put in puts]

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_group_with_one_failed_put_applies_nothing(self, store: StateStore, partition: str, position: int) -> None:
        """Wherever the failing write stands."""
        store.write(Put(partition, "taken", b"theirs"), Put(partition, "old", b"old"))
        group: list[Put | Delete] = [Put(partition, "new", b"new"), Delete(partition, "old")]
        group.insert(position, Put(partition, "taken", b"ours", ABSENT))
        with pytest.raises(ConditionFailed):
            store.write(*group)
        assert [(key, item.value) for key, item in store.query(partition)] == [("old", b"old"), ("taken", b"theirs")]

    def test_largest_group_and_longest_names_are_taken(self, store: StateStore, partition: str) -> None:
        """What the limits allow works: MAX_GROUP_BYTES together, and names of the greatest length."""
        place = partition.ljust(MAX_PARTITION_BYTES, "p")
        size = MAX_GROUP_BYTES // 10
        puts = [Put(place, str(number).ljust(MAX_KEY_BYTES, "k"), b"x" * size) for number in range(10)]
        store.write(*puts)
        assert [(key, len(item.value)) for key, item in store.query(place)] == [(put.key, size) for put in puts]

    def test_group_with_failed_check_applies_nothing(self, store: StateStore, partition: str) -> None:
        """A Check writes nothing itself but holds the others back."""
        store.write(Put(partition, "guard", b"1"))
        stale = _version(store, partition, "guard")
        store.write(Put(partition, "guard", b"2"))
        for check in (Check(partition, "guard", stale), Check(partition, "guard", ABSENT)):
            with pytest.raises(ConditionFailed):
                store.write(Put(partition, "key", b"value"), check)
        with pytest.raises(ConditionFailed):
            store.write(Put(partition, "key", b"value"), Check(partition, "absent", stale))
        assert store.get(partition, "key") is None

    def test_check_leaves_item_and_version_alone(self, store: StateStore, partition: str) -> None:
        """Checking is not writing."""
        store.write(Put(partition, "guard", b"1"))
        before = store.get(partition, "guard")
        store.write(Put(partition, "key", b"value"), Check(partition, "guard", _version(store, partition, "guard")))
        assert store.get(partition, "guard") == before

    def test_group_beyond_limits_is_value_error(self, store: StateStore, partition: str) -> None:
        """Too many writes, an item twice, a value or all together too large, a name too long: refused whole."""
        many = [Put(partition, f"key{number}", b"") for number in range(MAX_WRITES + 1)]
        twice = [Put(partition, "key", b""), Delete(partition, "key")]
        large = [Put(partition, "key", b""), Put(partition, "large", b"x" * (MAX_VALUE_BYTES + 1))]
        heavy = [Put(partition, f"key{number}", b"x" * MAX_VALUE_BYTES) for number in range(9)]
        long = [Put(partition, "key", b""), Put(partition, "k" * (MAX_KEY_BYTES + 1), b"")]
        for group in (many, twice, large, heavy, long):
            with pytest.raises(ValueError):  # noqa: PT011 (each plugin words it)
                store.write(*group)
        assert store.query(partition) == []

    # Expiry

    def test_expired_item_is_invisible_at_once(self, store: StateStore, partition: str, clock: Clock) -> None:
        """To get and query, from the very second of its expiry, without waiting for any broom."""
        store.write(Put(partition, "key", b"value", expires_at=int(clock.now) + self.expiry_s))
        clock.advance(self.expiry_s - 2)
        assert _value(store, partition, "key") == b"value"
        clock.advance(2)
        assert store.get(partition, "key") is None
        assert store.query(partition) == []

    def test_expired_item_counts_as_absent_in_conditions(self, store: StateStore, partition: str, clock: Clock) -> None:
        """For ABSENT, for its old version, for Check and for Delete."""
        store.write(Put(partition, "key", b"old", expires_at=int(clock.now) + self.expiry_s))
        version = _version(store, partition, "key")
        clock.advance(self.expiry_s + 1)
        for write in (
            Put(partition, "key", b"x", version),
            Delete(partition, "key", version),
            Check(partition, "key", version),
        ):
            with pytest.raises(ConditionFailed):
                store.write(write)
        store.write(Check(partition, "key", ABSENT), Put(partition, "proof", b""))
        store.write(Put(partition, "key", b"new", ABSENT))
        assert _value(store, partition, "key") == b"new"

    def test_put_without_expiry_lifts_older_expiry(self, store: StateStore, partition: str, clock: Clock) -> None:
        """An item's expiry belongs to its last write."""
        store.write(Put(partition, "key", b"old", expires_at=int(clock.now) + self.expiry_s))
        store.write(Put(partition, "key", b"new"))
        clock.advance(self.expiry_s + 1)
        assert _value(store, partition, "key") == b"new"

    def test_query_limit_counts_live_items_only(self, store: StateStore, partition: str, clock: Clock) -> None:
        """Expired items must not use up the page."""
        for number in range(5):
            expires_at = int(clock.now) + self.expiry_s if number < 3 else None
            store.write(Put(partition, f"key{number}", b"", expires_at=expires_at))
        clock.advance(self.expiry_s)
        assert [key for key, _ in store.query(partition, limit=1)] == ["key3"]
        assert [key for key, _ in store.query(partition, limit=5)] == ["key3", "key4"]

    # Concurrency and durability

    def test_put_absent_from_many_threads_has_one_winner(self, store: StateStore, partition: str) -> None:
        """The rest are told so, and the winner's value stands."""

        def put(number: int) -> bool:
            try:
                store.write(Put(partition, "key", b"%d" % number, ABSENT))
            except ConditionFailed:
                return False
            return True

        won = race(self.threads, put)
        assert won.count(True) == 1
        assert _value(store, partition, "key") == b"%d" % won.index(True)

    def test_compare_and_swap_from_many_threads_loses_no_update(
        self, store: StateStore, open_again: OpenStateStore, partition: str
    ) -> None:
        """Counting under the version that was read adds up, over two instances too."""
        rounds = 3
        stores = [store, open_again()]
        store.write(Put(partition, "count", b"0"))

        def increment(number: int) -> None:
            for _ in range(rounds):
                count(stores[number % 2], partition, 1)

        race(self.threads, increment)
        assert _value(store, partition, "count") == b"%d" % (self.threads * rounds)

    def test_second_instance_sees_writes_at_once(
        self, store: StateStore, open_again: OpenStateStore, partition: str
    ) -> None:
        """Both ways, by get, query and conditions: nothing is cached."""
        other = open_again()
        for writer, reader in ((store, other), (other, store)):
            writer.write(Put(partition, "key", b"value", ABSENT))
            assert _value(reader, partition, "key") == b"value"
            assert len(reader.query(partition)) == 1
            reader.write(Delete(partition, "key", _version(writer, partition, "key")))
            assert writer.get(partition, "key") is None

    def test_items_survive_reopening(self, store: StateStore, open_again: OpenStateStore, partition: str) -> None:
        """Value and version are as before."""
        store.write(Put(partition, "key", b"value"))
        before = store.get(partition, "key")
        store.close()
        assert open_again().get(partition, "key") == before


def race(threads: int, run: Callable[[int], T]) -> list[T]:
    """Call `run(0)` to `run(threads - 1)` at the same moment; the results in that order."""
    barrier = threading.Barrier(threads)

    def start(number: int) -> T:
        barrier.wait()
        return run(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(start, range(threads)))


def _value(store: StateStore, partition: str, key: str) -> bytes:
    item = store.get(partition, key)
    assert item is not None, f"{key} is absent"
    return item.value


def _version(store: StateStore, partition: str, key: str) -> str:
    item = store.get(partition, key)
    assert item is not None, f"{key} is absent"
    return item.version
