"""The part of the suite of state stores that is about queries."""

from __future__ import annotations

import pytest

from gramian.ports import Put, StateStore


class StateQueries:
    """Order, prefixes and pages, within one partition."""

    def test_query_gives_values_and_versions_of_get(self, store: StateStore, partition: str) -> None:
        """An item is the same whichever way it is read."""
        store.write(Put(partition, "a", b"1"), Put(partition, "b", b"2"))
        assert store.query(partition) == [(key, store.get(partition, key)) for key in ("a", "b")]

    def test_query_orders_by_utf8_bytes(self, store: StateStore, partition: str) -> None:
        """Not by UTF-16 (where the last two swap), not by locale, not by case."""
        keys = ["10", "9", "A", "_", "a", "ab", "b", "e\u0301", "\u00e9", "\u20ac", "\uffff", "\U0001f600"]
        store.write(*(Put(partition, key, b"") for key in reversed(keys)))
        assert [key for key, _ in store.query(partition)] == keys
        assert [key for key, _ in store.query(partition, reverse=True)] == keys[::-1]

    @pytest.mark.parametrize("prefix", ["a", "a/", "a%", "a_", "A", "\u00e9", "\U0010ffff", "none"])
    def test_query_prefix_is_taken_literally(self, store: StateStore, partition: str, prefix: str) -> None:
        """% and _ match themselves, case counts, and the last code point of all has a range too."""
        keys = ["A/1", "a", "a%1", "a/1", "a/2", "a_1", "ab1", "b", "\u00e9", "\u00e91", "\u00ea"]
        keys += ["\U0010ffff", "\U0010ffff\U0010ffff"]
        store.write(*(Put(partition, key, b"") for key in keys))
        assert [key for key, _ in store.query(partition, prefix)] == [key for key in keys if key.startswith(prefix)]

    @pytest.mark.parametrize("reverse", [False, True])
    def test_query_after_continues_where_a_page_ended(self, store: StateStore, partition: str, reverse: bool) -> None:
        """Full pages of two give everything under the prefix once, in either direction."""
        keys = [f"p/{number}" for number in range(5)]
        store.write(*(Put(partition, key, b"") for key in ["n", "o", *keys, "q", "r"]))
        pages: list[list[str]] = []
        after = ""
        while page := store.query(partition, "p/", after=after, limit=2, reverse=reverse):
            pages.append([key for key, _ in page])
            after = pages[-1][-1]
        expected = keys[::-1] if reverse else keys
        assert pages == [expected[:2], expected[2:4], expected[4:]]

    def test_query_after_outside_prefix_keeps_to_prefix(self, store: StateStore, partition: str) -> None:
        """`after` need not exist, nor lie within the prefix."""
        store.write(*(Put(partition, key, b"") for key in ("a", "p1", "p3", "z")))
        assert [key for key, _ in store.query(partition, "p", after="b")] == ["p1", "p3"]
        assert [key for key, _ in store.query(partition, "p", after="p2")] == ["p3"]
        assert store.query(partition, "p", after="y") == []

    def test_query_of_large_items_gives_all(self, store: StateStore, partition: str) -> None:
        """A plugin's pages of answers (1 MB in DynamoDB) are joined."""
        for number in range(5):
            store.write(Put(partition, f"key{number}", b"%d" % number * 300_000))
        assert [len(item.value) for _, item in store.query(partition)] == [300_000] * 5
        assert [key for key, _ in store.query(partition, limit=4)] == ["key0", "key1", "key2", "key3"]
