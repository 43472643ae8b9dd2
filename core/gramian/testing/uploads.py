"""Contract of `gramian.ports.UploadStore`. Subclass, name the class `Test...`, and provide the fixtures.

class TestMyUploads(UploadStoreContract):
    @pytest.fixture
    def store(self): ...
    @pytest.fixture
    def put(self, store): ...   # where tickets are for the node's own server: (ticket, bytes) -> HTTP status of a PUT
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPSConnection
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

from gramian.errors import BlobMissing
from gramian.ports import Ticket, UploadStore
from gramian.testing.outages import UploadStoreOutage

PutUpload: TypeAlias = Callable[[Ticket, bytes], int]
REFUSED = range(400, 500)


class UploadStoreContract(UploadStoreOutage):
    """What every store of uploads does. See the module for how to use it."""

    is_signed = True
    """Whether the server that takes the PUT checks tickets: some emulators do not."""

    @pytest.fixture
    def store(self) -> UploadStore:
        raise NotImplementedError("provide `store`: a store to test")

    @pytest.fixture
    def put(self) -> PutUpload:
        """Sends bytes as a ticket says, and returns the HTTP status. By default to whom the ticket names: override
        this for tickets to the node's own server."""

        def send(ticket: Ticket, data: bytes) -> int:
            url = urlsplit(ticket.url)
            if not url.netloc:
                pytest.skip("tickets are for the node's own server, and no fixture `put` reaches one")
            kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
            with closing(kind(url.netloc, timeout=60)) as connection:
                connection.request("PUT", f"{url.path}?{url.query}", data, dict(ticket.headers))
                return connection.getresponse().status

        return send

    @pytest.fixture
    def space(self, store: UploadStore) -> Iterator[str]:
        name = secrets.token_hex(16)
        yield name
        store.clear(name)

    def test_what_was_put_can_be_read_from_any_position(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """As a whole, line by line, and again from the middle."""
        data = b"".join(b"%d,%d\n" % (i, i * i) for i in range(200_000))
        assert put(_ticket(store, space, "a1", len(data)), data) < 300
        arrived = store.find(space, "a1")
        assert arrived is not None
        assert arrived.size_bytes == len(data)
        with store.open(space, "a1", arrived.tag) as file:
            assert file.readline() == b"0,0\n"
            assert file.seekable()
            file.seek(len(data) // 2)
            assert file.read(1000) == data[len(data) // 2 :][:1000]
            assert file.tell() == len(data) // 2 + 1000
            file.seek(0)
            is_equal = file.read() == data
            assert is_equal
            assert file.read(1) == b""
            assert file.seek(-4, 2) == len(data) - 4
            assert file.read() == data[-4:]

    def test_upload_that_has_not_come_is_absent(self, store: UploadStore, space: str) -> None:
        """A ticket alone is nothing."""
        _ticket(store, space, "a1", 10)
        assert store.find(space, "a1") is None
        with pytest.raises(BlobMissing):
            store.open(space, "a1", "tag")

    def test_deleted_upload_is_gone(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """Deleting it again is fine, and others stay."""
        for name in ("a1", "a2"):
            put(_ticket(store, space, name, 3), b"abc")
        for _ in range(2):
            store.delete(space, "a1")
        assert store.find(space, "a1") is None
        assert store.find(space, "a2") is not None

    def test_cleared_space_is_empty(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """Other spaces keep theirs, also one whose name begins alike."""
        other = f"{space}0"
        for each in (space, other):
            put(_ticket(store, each, "a1", 3), b"abc")
        for _ in range(2):
            store.clear(space)
        assert store.find(space, "a1") is None
        assert store.find(other, "a1") is not None
        store.clear(other)

    def test_wrong_tag_is_not_opened(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """Whoever goes on reading reads what it began with."""
        put(_ticket(store, space, "a1", 3), b"abc")
        with pytest.raises(BlobMissing), store.open(space, "a1", "another") as file:
            file.read()

    def test_expired_ticket_is_refused(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """By the store's own clock."""
        self._need_signatures()
        assert put(store.ticket(space, "a1", size_bytes=3, expires_at=int(time.time()) + 1), b"abc") < 300
        late = store.ticket(space, "a2", size_bytes=3, expires_at=int(time.time()) + 1)
        time.sleep(2.1)
        assert put(late, b"abc") in REFUSED
        assert store.find(space, "a2") is None

    def test_other_size_than_announced_is_refused(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """Neither more nor less."""
        self._need_signatures()
        for data in (b"ab", b"abcd"):
            assert put(_ticket(store, space, "a1", 3), data) in REFUSED
        assert store.find(space, "a1") is None

    def test_ticket_is_good_for_its_name_only(self, store: UploadStore, put: PutUpload, space: str) -> None:
        """Another path under the same signature is refused."""
        self._need_signatures()
        ticket = _ticket(store, space, "a1", 3)
        assert put(Ticket(ticket.url.replace("/a1?", "/a2?"), ticket.headers), b"abc") in REFUSED
        assert store.find(space, "a2") is None

    def _need_signatures(self) -> None:
        if not self.is_signed:
            pytest.skip("the server that takes the PUT does not check signatures")


def _ticket(store: UploadStore, space: str, name: str, size_bytes: int) -> Ticket:
    return store.ticket(space, name, size_bytes=size_bytes, expires_at=int(time.time()) + 600)
