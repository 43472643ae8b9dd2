"""The contract of `gramian.ports.Transport` and `Link`, as tests that any plugin can run.

class TestMyTransport(TransportContract):
    @pytest.fixture
    def transport(self) -> Iterator[MyTransport]: ...

    @pytest.fixture
    def options(self) -> dict[str, str]: ...
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from gramian.errors import (
    ContentMissing,
    InvalidRequest,
    Refused,
    RevisionConflict,
    TransportError,
    TransportUnavailable,
)
from gramian.ports import Link, Transport

MAX_BLOB_BYTES = 32 * 2**20
"""Room that each test's federation asks for."""

ALICE, BOB, CAROL = "a1" * 16, "b2" * 16, "c3" * 16


class TransportContract:
    """Override the fixtures `transport` and `options`; the transport may hold other federations meanwhile."""

    settle_s = 5.0
    """How long a freed blob's room, or a nudge, may take to show."""
    quiet_s = 0.2
    """How long nothing must arrive for a test to believe that nothing will."""
    unreachable: Mapping[str, str] | None = None
    """Options that lead nowhere, if there is such a thing; the shorter their timeout, the better."""
    patience_s = 40.0
    """How long it may take to learn that."""

    @pytest.fixture
    def transport(self) -> Iterator[Transport]:
        raise NotImplementedError("override this fixture with your transport")

    @pytest.fixture
    def options(self) -> Mapping[str, str]:
        raise NotImplementedError("override this fixture with options that `open` takes")

    @pytest.fixture
    def fed_id(self) -> str:
        return secrets.token_hex(16)

    @pytest.fixture
    def open_link(self, transport: Transport, options: Mapping[str, str]) -> Iterator[Callable[[], Link]]:
        """Opens links that are closed when the test ends."""
        links: list[Link] = []

        def open_one() -> Link:
            links.append(transport.open(options))
            return links[-1]

        yield open_one
        for link in links:
            link.close()

    @pytest.fixture
    def link(self, open_link: Callable[[], Link], fed_id: str) -> Iterator[Link]:
        """A link with the federation's place made, and removed after the test."""
        link = open_link()
        link.create(fed_id, max_blob_bytes=MAX_BLOB_BYTES)
        yield link
        link.destroy(fed_id)

    # Options

    def test_check_options_repeated_changes_nothing(self, transport: Transport, options: Mapping[str, str]) -> None:
        """Normalised options are a fixed point, all of them strings, and foreign keys are left out."""
        checked = transport.check_options({**options, "another_key": "x"})
        assert "another_key" not in checked
        assert transport.check_options(checked) == checked
        assert all(isinstance(value, str) for value in checked.values())

    def test_check_options_empty_is_refused(self, transport: Transport) -> None:
        """Without any option there is nothing to connect to."""
        with pytest.raises(InvalidRequest):
            transport.check_options({})

    def test_place_that_cannot_be_reached_is_said_in_time(self, transport: Transport) -> None:
        """A caller waits for an answer: nothing may hang."""
        if self.unreachable is None:
            pytest.skip("no options that lead nowhere were given (`unreachable`)")
        started = time.monotonic()
        with (
            pytest.raises(TransportError),
            closing(transport.open(transport.check_options(self.unreachable))) as link,
        ):
            link.cut(secrets.token_hex(16), [])
        assert time.monotonic() - started < self.patience_s

    # The federation's place

    def test_create_twice_keeps_what_is_there(self, link: Link, fed_id: str) -> None:
        """Making the place again is harmless."""
        link.put_head(fed_id, ALICE, b"head", expect=None)
        link.create(fed_id, max_blob_bytes=MAX_BLOB_BYTES)
        assert link.cut(fed_id, [ALICE]).heads[ALICE].data == b"head"

    def test_destroy_then_everything_is_gone(self, link: Link, fed_id: str) -> None:
        """After removal reads and writes say that the place is gone; removing it again is fine."""
        link.put_head(fed_id, ALICE, b"head", expect=None)
        link.destroy(fed_id)
        link.destroy(fed_id)
        with pytest.raises(ContentMissing):
            link.cut(fed_id, [ALICE])
        with pytest.raises(ContentMissing):
            link.put_head(fed_id, ALICE, b"head", expect=None)
        with pytest.raises(ContentMissing):
            link.put_blob(fed_id, ALICE, "01", [b"chunk"])
        with pytest.raises(ContentMissing):
            link.get_blob(fed_id, ALICE, "01", 1, max_bytes=100)
        assert link.missing_chunks(fed_id, ALICE, "01", 2) == [0, 1]
        link.free_blob(fed_id, ALICE, "01", 1)

    def test_federations_do_not_mix(self, link: Link, fed_id: str) -> None:
        """A second federation sees nothing of the first."""
        other = secrets.token_hex(16)
        link.create(other, max_blob_bytes=MAX_BLOB_BYTES)
        try:
            link.put_roster(fed_id, b"roster", expect=None)
            link.put_head(fed_id, ALICE, b"head", expect=None)
            link.put_blob(fed_id, ALICE, "01", [b"chunk"])
            cut = link.cut(other, [ALICE])
            assert cut.roster is None
            assert cut.heads == {}
            assert link.missing_chunks(other, ALICE, "01", 1) == [0]
        finally:
            link.destroy(other)

    def test_ids_that_are_not_hex_are_refused(self, link: Link, fed_id: str) -> None:
        """No id can reach beyond its own place."""
        for bad in ("", "*", ">", "a.b", "AB", "g1", "a b", "a\r\n"):
            with pytest.raises(ValueError, match="hex"):
                link.cut(bad, [])
            with pytest.raises(ValueError, match="hex"):
                link.cut(fed_id, [bad])
            with pytest.raises(ValueError, match="hex"):
                link.put_head(fed_id, bad, b"head", expect=None)
            with pytest.raises(ValueError, match="hex"):
                link.put_blob(fed_id, ALICE, bad, [b"chunk"])

    # Heads and the roster

    def test_cut_of_a_new_place_is_empty(self, link: Link, fed_id: str) -> None:
        """A place without entries is not an absent place."""
        cut = link.cut(fed_id, [ALICE, BOB])
        assert cut.roster is None
        assert cut.heads == {}

    def test_cut_sees_only_the_peers_asked_for(self, link: Link, fed_id: str) -> None:
        """Heads of peers that are not asked for, or have none, are not in the cut."""
        for peer_id in (ALICE, BOB):
            link.put_head(fed_id, peer_id, peer_id.encode(), expect=None)
        link.put_roster(fed_id, b"roster", expect=None)
        cut = link.cut(fed_id, [BOB, CAROL])
        assert cut.roster is not None
        assert cut.roster.data == b"roster"
        assert {peer_id: entry.data for peer_id, entry in cut.heads.items()} == {BOB: BOB.encode()}

    def test_head_and_roster_are_written_by_compare_and_set(self, link: Link, fed_id: str) -> None:
        """Each write names the revision that it replaces; any other is a conflict and changes nothing."""

        def put_head(data: bytes, expect: str | None) -> str:
            return link.put_head(fed_id, ALICE, data, expect=expect)

        def put_roster(data: bytes, expect: str | None) -> str:
            return link.put_roster(fed_id, data, expect=expect)

        for put in (put_head, put_roster):
            first = put(b"one", None)
            with pytest.raises(RevisionConflict):
                put(b"two", None)
            second = put(b"two", first)
            assert second != first
            with pytest.raises(RevisionConflict):
                put(b"three", first)
        cut = link.cut(fed_id, [ALICE])
        assert cut.roster is not None
        assert (cut.roster.data, cut.heads[ALICE].data) == (b"two", b"two")

    def test_revisions_from_a_cut_allow_the_next_write(self, link: Link, fed_id: str) -> None:
        """What `cut` names is what a write must name, also when other entries changed in between."""
        link.put_head(fed_id, ALICE, b"one", expect=None)
        revision = link.cut(fed_id, [ALICE]).heads[ALICE].revision
        link.put_head(fed_id, BOB, b"other", expect=None)
        assert link.put_head(fed_id, ALICE, b"two", expect=revision) != revision

    def test_an_expected_revision_where_nothing_is_conflicts(self, link: Link, fed_id: str) -> None:
        """A writer that believes in an entry that is gone learns so."""
        revision = link.put_head(fed_id, ALICE, b"one", expect=None)
        with pytest.raises(RevisionConflict):
            link.put_head(fed_id, BOB, b"two", expect=revision)

    def test_concurrent_writers_exactly_one_wins(self, open_link: Callable[[], Link], link: Link, fed_id: str) -> None:
        """Of many writers that saw the same revision, one gets through and its bytes stay."""
        writers = 8
        barrier = threading.Barrier(writers)

        def write(mine: Link, data: bytes) -> bytes | None:
            barrier.wait(timeout=10)
            try:
                mine.put_head(fed_id, ALICE, data, expect=None)
            except RevisionConflict:
                return None
            return data

        links = [open_link() for _ in range(writers)]
        with ThreadPoolExecutor(writers) as threads:
            outcomes = list(threads.map(write, links, [f"writer {index}".encode() for index in range(writers)]))
        winners = [data for data in outcomes if data is not None]
        assert len(winners) == 1
        assert link.cut(fed_id, [ALICE]).heads[ALICE].data == winners[0]

    def test_cut_of_a_thousand_peers_is_one_reading(self, link: Link, fed_id: str) -> None:
        """The largest cut works; a larger one is a mistake of the caller."""
        peers = [f"{index:032x}" for index in range(1_001)]
        link.put_head(fed_id, peers[0], b"first", expect=None)
        link.put_head(fed_id, peers[999], b"last", expect=None)
        assert set(link.cut(fed_id, peers[:1_000]).heads) == {peers[0], peers[999]}
        with pytest.raises(ValueError, match="1000"):
            link.cut(fed_id, peers)

    def test_cut_shows_what_stood_at_one_moment(self, open_link: Callable[[], Link], link: Link, fed_id: str) -> None:
        """While somebody writes the roster, then a head that needs it: no head without its roster, and none before."""

        def write(mine: Link) -> None:
            roster = head = None
            for number in range(40):
                text = str(number).encode()
                roster = mine.put_roster(fed_id, text, expect=roster)
                head = mine.put_head(fed_id, ALICE, text, expect=head)
                time.sleep(0.015)

        seen = set()
        with ThreadPoolExecutor(1) as threads:
            writer = threads.submit(write, open_link())
            while not writer.done():
                with suppress(TransportUnavailable):  # the roster never stood still
                    cut = link.cut(fed_id, [ALICE])
                    version = int(cut.roster.data) if cut.roster is not None else -1
                    seen.add((version, int(cut.heads[ALICE].data) if ALICE in cut.heads else -1))
            writer.result()
        assert len(seen) > 3
        assert all(version - 1 <= head <= version for version, head in seen), sorted(seen)

    # Blobs

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
        """Empty chunks (a freed one looks like that), too large ones, and no chunks at all."""
        for chunks in ([], [b""], [b"x" * (link.chunk_bytes + 1)]):
            with pytest.raises(ValueError, match="chunks"):
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

    # Nudges

    def test_nudge_reaches_listeners_of_its_federation_only(
        self, open_link: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """A nudge arrives at another link, from another thread, and not at another federation."""
        heard, elsewhere = threading.Event(), threading.Event()
        received: list[tuple[bytes, int]] = []

        def on_nudge(data: bytes) -> None:
            received.append((data, threading.get_ident()))
            heard.set()

        stop = open_link().listen(fed_id, BOB, on_nudge)
        stop_other = open_link().listen(secrets.token_hex(16), BOB, lambda _: elsewhere.set())
        link.nudge(fed_id, b"news")
        assert heard.wait(self.settle_s)
        assert not elsewhere.wait(self.quiet_s)
        stop()
        stop_other()
        assert [data for data, _ in received] == [b"news"]
        assert received[0][1] != threading.get_ident()

    def test_nudge_after_unsubscribing_is_not_heard(
        self, open_link: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """The returned function ends the listening, and may be called again."""
        received: list[bytes] = []
        witness = threading.Event()
        stop = open_link().listen(fed_id, BOB, received.append)
        stop_witness = open_link().listen(fed_id, CAROL, lambda _: witness.set())
        stop()
        stop()
        link.nudge(fed_id, b"news")
        assert witness.wait(self.settle_s)
        stop_witness()
        assert received == []

    def test_failing_callback_hears_the_next_nudge(
        self, open_link: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """An error in a callback ends neither the listening nor the process."""
        second = threading.Event()

        def on_nudge(data: bytes) -> None:
            if data == b"first":
                raise RuntimeError("on purpose")
            second.set()

        stop = open_link().listen(fed_id, BOB, on_nudge)
        link.nudge(fed_id, b"first")
        link.nudge(fed_id, b"second")
        assert second.wait(self.settle_s)
        stop()

    # The line itself

    def test_traffic_counts_payload_both_ways(self, link: Link, fed_id: str) -> None:
        """What went out and came in is counted at least."""
        before = link.traffic()
        link.put_blob(fed_id, ALICE, "01", [b"x" * 10_000])
        link.get_blob(fed_id, ALICE, "01", 1, max_bytes=10_000)
        after = link.traffic()
        assert 10_000 <= after.sent_bytes - before.sent_bytes < 20_000
        assert 10_000 <= after.received_bytes - before.received_bytes < 20_000

    def test_closed_link_refuses_further_calls(self, open_link: Callable[[], Link], link: Link, fed_id: str) -> None:
        """Closing may be repeated; afterwards calls fail as errors of the transport, and other links go on."""
        closed = open_link()
        closed.close()
        closed.close()
        with pytest.raises(TransportError):
            closed.cut(fed_id, [])
        assert link.cut(fed_id, []).roster is None

    def _eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.settle_s
        while not holds():
            assert time.monotonic() < deadline, f"does not hold after {self.settle_s} s"
            time.sleep(0.1)
