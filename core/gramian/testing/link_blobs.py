"""The part of the suite of transports that is about blobs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

import pytest

from gramian.errors import ContentMissing, Refused, TransportRefused
from gramian.ports import MAX_CHUNKS, Link, PeerRoom, Transport
from gramian.testing.links import ALICE, BOB, MAX_BLOB_BYTES, Links

LARGE_BYTES = 100_000_000


class LinkBlobs(Links):
    """Chunks come and go, again, half or whole."""

    @pytest.mark.parametrize("sizes", [[1], [10, 20, 3], [1000] * 300])
    def test_blob_round_trip_returns_the_chunks(self, link: Link, fed_id: str, sizes: list[int]) -> None:
        """Chunks come back whole and in order."""
        chunks = [secrets.token_bytes(size) for size in sizes]
        link.put_blob(fed_id, ALICE, "01", chunks)
        assert link.missing_chunks(fed_id, ALICE, "01", len(chunks)) == []
        assert link.get_blob(fed_id, ALICE, "01", len(chunks), max_bytes=sum(sizes)) == chunks

    def test_blob_of_8_mb_in_largest_chunks_returns(self, link: Link, fed_id: str) -> None:
        """Chunks as large as the link takes pass."""
        assert link.chunk_bytes >= 32 * 1024
        chunks = [secrets.token_bytes(link.chunk_bytes) for _ in range(-(-8_000_000 // link.chunk_bytes))]
        link.put_blob(fed_id, ALICE, "01", chunks)
        assert link.get_blob(fed_id, ALICE, "01", len(chunks), max_bytes=MAX_BLOB_BYTES) == chunks

    def test_blob_of_100_mb_returns(
        self, transport: Transport, options: Mapping[str, str], open_link: Callable[[], Link], fed_id: str
    ) -> None:
        """Where a federation of these options has the room."""
        limits = transport.limits(options)
        if limits.max_blob_bytes < LARGE_BYTES:
            pytest.skip(f"these options leave room for {limits.max_blob_bytes} bytes only")
        link = open_link()
        try:
            link.create(fed_id, max_blob_bytes=limits.max_blob_bytes, replicas=limits.replicas)
        except TransportRefused as error:
            pytest.skip(f"there is no such room here: {error}")
        try:
            chunks = _large_chunks(link.chunk_bytes)
            link.put_blob(fed_id, ALICE, "01", chunks)
            received = link.get_blob(fed_id, ALICE, "01", len(chunks), max_bytes=limits.max_blob_bytes)
            # Compared outside the assert: a failure must not print 100 MB.
            same = list(received) == chunks
            assert same
        finally:
            link.destroy(fed_id)

    def test_blob_put_twice_is_there_once(self, link: Link, fed_id: str) -> None:
        """A repetition after an interruption neither fails nor doubles."""
        chunks = [b"one", b"two"]
        link.put_blob(fed_id, ALICE, "01", chunks[:1])
        link.put_blob(fed_id, ALICE, "01", chunks)
        link.put_blob(fed_id, ALICE, "01", chunks)
        assert link.get_blob(fed_id, ALICE, "01", 2, max_bytes=6) == chunks

    def test_blobs_of_one_peer_do_not_mix(self, link: Link, fed_id: str) -> None:
        """Blob ids that begin alike, and equal ids of two peers, are different blobs."""
        blobs = {(ALICE, "01"): b"one", (ALICE, "0"): b"two", (BOB, "01"): b"three"}
        for (peer_id, blob_id), data in blobs.items():
            link.put_blob(fed_id, peer_id, blob_id, [data])
        for (peer_id, blob_id), data in blobs.items():
            assert link.get_blob(fed_id, peer_id, blob_id, 1, max_bytes=100) == [data]

    def test_incomplete_blob_names_its_gap(self, link: Link, fed_id: str) -> None:
        """A blob with fewer chunks than its head says is missing the rest."""
        link.put_blob(fed_id, ALICE, "01", [b"one", b"two"])
        assert link.missing_chunks(fed_id, ALICE, "01", 4) == [2, 3]
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 4, max_bytes=100)

    def test_blob_that_somebody_wrote_to_is_missing_since(self, link: Link, fed_id: str) -> None:
        """Whoever put it can tell without reading it again, and puts it back."""
        mark = link.put_blob(fed_id, ALICE, "01", [b"one", b"two"])
        link.put_blob(fed_id, ALICE, "02", [b"another"])
        assert link.missing_chunks(fed_id, ALICE, "01", 2, since=mark) == []
        link.put_blob(fed_id, ALICE, "01", [b"bad"])
        assert link.missing_chunks(fed_id, ALICE, "01", 2, since=mark) == [0, 1]
        mark = link.put_blob(fed_id, ALICE, "01", [b"one", b"two"])
        assert link.missing_chunks(fed_id, ALICE, "01", 2, since=mark) == []

    def test_absent_blob_is_missing(self, link: Link, fed_id: str) -> None:
        """A blob that never was is not an empty blob."""
        assert link.missing_chunks(fed_id, ALICE, "01", 2) == [0, 1]
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 2, max_bytes=100)

    def test_blob_beyond_max_bytes_is_refused(self, link: Link, fed_id: str) -> None:
        """The limit holds on the sum; a blob that just fits passes."""
        chunks = [b"x" * 1000] * 5
        link.put_blob(fed_id, ALICE, "01", chunks)
        with pytest.raises(Refused):
            link.get_blob(fed_id, ALICE, "01", 5, max_bytes=4_999)
        assert link.get_blob(fed_id, ALICE, "01", 5, max_bytes=5_000) == chunks

    def test_chunks_that_cannot_be_stored_are_refused(self, link: Link, fed_id: str) -> None:
        """Empty chunks (a freed one looks like that), too large or too many ones, and none at all."""
        for chunks in ([], [b""], [b"x" * (link.chunk_bytes + 1)], [b"x"] * (MAX_CHUNKS + 1)):
            with pytest.raises(ValueError):  # noqa: PT011 (each plugin words it)
                link.put_blob(fed_id, ALICE, "01", chunks)

    def test_freed_blob_is_missing(self, link: Link, fed_id: str) -> None:
        """A freed blob cannot be read from now on, and shows as missing soon; other blobs stay."""
        link.put_blob(fed_id, ALICE, "01", [b"one", b"two"])
        link.put_blob(fed_id, ALICE, "02", [b"kept"])
        link.free_blob(fed_id, ALICE, "01", 2)
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 2, max_bytes=100)
        self._eventually(lambda: link.missing_chunks(fed_id, ALICE, "01", 2) == [0, 1])
        assert link.get_blob(fed_id, ALICE, "02", 1, max_bytes=100) == [b"kept"]

    def test_free_of_absent_or_freed_blob_is_fine(self, link: Link, fed_id: str) -> None:
        """Giving back what is not there, or twice, changes nothing."""
        link.free_blob(fed_id, ALICE, "01", 3)
        link.put_blob(fed_id, ALICE, "01", [b"one"])
        link.free_blob(fed_id, ALICE, "01", 1)
        link.free_blob(fed_id, ALICE, "01", 1)
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 1, max_bytes=100)

    def test_freed_room_of_a_peer_is_that_of_all_its_blobs(self, link: Link, fed_id: str) -> None:
        """Whatever its head shows; others keep theirs. For links that can do that."""
        if not isinstance(link, PeerRoom):
            pytest.skip("this link frees blob by blob")
        for blob_id in ("01", "02"):
            link.put_blob(fed_id, ALICE, blob_id, [b"one", b"two"])
        link.put_blob(fed_id, BOB, "01", [b"kept"])
        link.free_peer(fed_id, ALICE)
        for blob_id in ("01", "02"):
            with pytest.raises(ContentMissing):
                link.get_blob(fed_id, ALICE, blob_id, 2, max_bytes=100)
        link.free_peer(fed_id, ALICE)
        assert link.get_blob(fed_id, BOB, "01", 1, max_bytes=100) == [b"kept"]


def _large_chunks(chunk_bytes: int) -> list[bytes]:
    """No two alike: one in another's place would show."""
    filling = secrets.token_bytes(chunk_bytes - 8)
    return [number.to_bytes(8, "big") + filling for number in range(-(-LARGE_BYTES // chunk_bytes))]
