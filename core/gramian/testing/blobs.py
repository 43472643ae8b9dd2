"""Contract of `gramian.ports.BlobStore`. Subclass, name the class `Test...`, and provide the fixtures.

    class TestMyBlobs(BlobStoreContract):
        @pytest.fixture
        def open_again(self): ...   # () -> another store on the same data
        @pytest.fixture
        def store(self, open_again): return open_again()

A store that talks to a server may keep its data between tests: each test uses spaces of its own.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import pytest

from gramian.errors import BlobMissing
from gramian.ports import BlobStore
from gramian.testing.outages import BlobStoreOutage
from gramian.testing.state import race

OpenBlobStore: TypeAlias = Callable[[], BlobStore]
MANY = 1_005
"""More than S3 and its like name in one answer."""


class BlobStoreContract(BlobStoreOutage):
    """What every blob store does. See the module for how to use it."""

    threads = 8
    """How many threads put the same bytes at once."""
    time_resolution_s = 1.0
    """How far apart two puts must be for `modified_at` to differ."""

    @pytest.fixture
    def open_again(self) -> OpenBlobStore:
        raise NotImplementedError("provide `open_again`: a function that opens another store on the same data")

    @pytest.fixture
    def store(self, open_again: OpenBlobStore) -> BlobStore:
        raise NotImplementedError("provide `store`: a store to test")

    @pytest.fixture
    def space(self, open_again: OpenBlobStore) -> Iterator[str]:
        """Of the letters that every store allows: 0-9, a-f and -. Cleared when the test ends."""
        name = str(uuid.uuid4())
        yield name
        cleaner = open_again()
        cleaner.clear(name)
        cleaner.clear(f"{name}-0")

    @pytest.mark.parametrize("size_bytes", [0, 1, 100_000, 100_000_000])
    def test_put_then_get_gives_same_bytes(self, store: BlobStore, space: str, size_bytes: int) -> None:
        """From nothing to 100 MB; the name is the SHA-256 of the content."""
        data = b"\x00\xff\r\n" * (size_bytes // 4) + b"x" * (size_bytes % 4)
        digest = store.put(space, data)
        assert digest == hashlib.sha256(data).hexdigest()
        # Compared outside the assert: a failure must not print 100 MB.
        same = store.get(space, digest) == data
        assert same

    def test_put_takes_what_can_be_changed_later(self, store: BlobStore, space: str) -> None:
        """A bytearray is stored as it is now."""
        data = bytearray(b"before")
        digest = store.put(space, data)
        data[:] = b"after!"
        assert store.get(space, digest) == b"before"

    def test_read_gives_part_of_a_blob(self, store: BlobStore, space: str) -> None:
        """Any part, cut off at the end; nothing beyond it; and BlobMissing where there is no blob."""
        data = bytes(range(256)) * 1000
        digest = store.put(space, data)
        for start, size in ((0, 8), (0, len(data)), (1000, 100_000), (len(data) - 5, 10), (0, 10 * len(data))):
            part = store.read(space, digest, start, size)
            assert part == data[start : start + size]
        for start, size in ((len(data), 10), (10 * len(data), 10), (10, 0)):
            assert store.read(space, digest, start, size) == b""
        with pytest.raises(BlobMissing):
            store.read(space, hashlib.sha256(b"absent").hexdigest(), 0, 10)

    def test_put_twice_gives_same_digest_once_in_list(self, store: BlobStore, space: str) -> None:
        """Content names the blob."""
        assert store.put(space, b"data") == store.put(space, b"data")
        assert len(list(store.list(space))) == 1

    def test_put_again_refreshes_modified_at(self, store: BlobStore, space: str) -> None:
        """Whoever clears away old blobs must not remove one that was just stored again."""
        store.put(space, b"data")
        (before,) = store.list(space)
        time.sleep(self.time_resolution_s * 1.1)
        store.put(space, b"data")
        (after,) = store.list(space)
        assert after.modified_at > before.modified_at

    def test_get_absent_is_blob_missing(self, store: BlobStore, space: str) -> None:
        """In a space that was never used, and in one that was."""
        absent = hashlib.sha256(b"absent").hexdigest()
        with pytest.raises(BlobMissing):
            store.get(space, absent)
        store.put(space, b"data")
        with pytest.raises(BlobMissing):
            store.get(space, absent)

    def test_delete_removes_and_repeats(self, store: BlobStore, space: str) -> None:
        """Removing what is absent is fine, and the others stay."""
        kept, removed = store.put(space, b"kept"), store.put(space, b"removed")
        store.delete(space, removed)
        store.delete(space, removed)
        with pytest.raises(BlobMissing):
            store.get(space, removed)
        assert store.get(space, kept) == b"kept"
        assert [info.digest for info in store.list(space)] == [kept]

    def test_spaces_are_isolated(self, store: BlobStore, space: str) -> None:
        """Equal bytes in two spaces are two blobs, also when one space's name begins the other's."""
        other = f"{space}-0"
        digest = store.put(space, b"data")
        with pytest.raises(BlobMissing):
            store.get(other, digest)
        store.put(other, b"data")
        store.put(other, b"more")
        assert len(list(store.list(space))) == 1
        store.delete(space, digest)
        assert store.get(other, digest) == b"data"
        store.clear(space)
        assert len(list(store.list(other))) == 2

    def test_list_gives_digest_size_and_time(self, store: BlobStore, space: str) -> None:
        """Every blob once; times are unix seconds (a server's clock may differ a little)."""
        data = [b"x" * size for size in (0, 1, 1000)]
        store.put(space, data[0])
        expected = {store.put(space, each): len(each) for each in data}
        infos = list(store.list(space))
        assert len(infos) == len(data)
        assert {info.digest: info.size_bytes for info in infos} == expected
        assert all(abs(info.modified_at - time.time()) < 300 for info in infos)

    def test_more_blobs_than_a_page_are_all_listed_and_cleared(self, store: BlobStore, space: str) -> None:
        """Services list and delete a thousand at most at once."""
        with ThreadPoolExecutor(self.threads) as pool:
            put = set(pool.map(lambda number: store.put(space, b"%d" % number), range(MANY)))
        listed = [info.digest for info in store.list(space)]
        assert len(listed) == MANY
        assert set(listed) == put
        store.clear(space)
        assert len(list(store.list(space))) == 0

    def test_list_of_unused_space_is_empty(self, store: BlobStore, space: str) -> None:
        """A space needs no making."""
        assert list(store.list(space)) == []

    def test_clear_removes_all_and_repeats(self, store: BlobStore, space: str) -> None:
        """Also an absent space; and the space can be used again."""
        store.clear(space)
        digests = [store.put(space, b"%d" % number) for number in range(5)]
        store.clear(space)
        store.clear(space)
        assert list(store.list(space)) == []
        for digest in digests:
            with pytest.raises(BlobMissing):
                store.get(space, digest)
        assert store.get(space, store.put(space, b"again")) == b"again"

    def test_put_of_same_bytes_from_many_threads_is_fine(
        self, store: BlobStore, open_again: OpenBlobStore, space: str
    ) -> None:
        """Over two instances; a reader in between sees the whole blob or none."""
        stores = [store, open_again()]
        data = bytes(1_000_000)

        def put_and_get(number: int) -> bool:
            mine = stores[number % 2]
            return mine.get(space, mine.put(space, data)) == data

        assert race(self.threads, put_and_get) == [True] * self.threads
        assert [info.size_bytes for info in store.list(space)] == [len(data)]

    def test_second_instance_sees_puts_and_deletes(
        self, store: BlobStore, open_again: OpenBlobStore, space: str
    ) -> None:
        """At once."""
        other = open_again()
        digest = store.put(space, b"data")
        assert other.get(space, digest) == b"data"
        other.delete(space, digest)
        with pytest.raises(BlobMissing):
            store.get(space, digest)

    def test_blobs_survive_reopening(self, store: BlobStore, open_again: OpenBlobStore, space: str) -> None:
        """Bytes that were stored are there for the next process."""
        digest = store.put(space, b"data")
        store.close()
        assert open_again().get(space, digest) == b"data"
