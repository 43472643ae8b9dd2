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
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial

import pytest

from gramian.errors import ContentMissing, InvalidRequest, RevisionConflict, TransportError, TransportUnavailable
from gramian.ports import Cut, Link, Transport
from gramian.testing.link_blobs import LinkBlobs
from gramian.testing.link_nudges import LinkNudges
from gramian.testing.links import ALICE, BOB, CAROL, MAX_BLOB_BYTES

__all__ = ["ALICE", "BOB", "CAROL", "MAX_BLOB_BYTES", "TransportContract"]


class TransportContract(LinkBlobs, LinkNudges):
    """Override the fixtures `transport` and `options`; the transport may hold other federations meanwhile."""

    patience_s = 40.0
    """How long it may take to learn that nobody can be reached."""

    @pytest.fixture
    def unreachable(self) -> Mapping[str, str]:
        """Options that lead nowhere; the shorter their timeout, the better."""
        pytest.skip("no options that lead nowhere were given (`unreachable`)")

    @pytest.fixture
    def own_keys(self, transport: Transport, options: Mapping[str, str]) -> Mapping[str, str]:
        """What a member adds to an invitation's options: by default, all that is not shared if a secret is not, for
        that is a login of its own."""
        shared = transport.shared_options(options)
        own = {key: value for key, value in options.items() if key not in shared}
        return own if transport.secret_options & own.keys() else {}

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

    def test_shared_options_lead_a_member_there(
        self, transport: Transport, options: Mapping[str, str], own_keys: Mapping[str, str], link: Link, fed_id: str
    ) -> None:
        """What an invitation carries is of the founder's options, and with what a member has of its own it is enough
        to meet the others."""
        checked, shared = transport.check_options(options), transport.shared_options(options)
        assert set(shared.items()) <= set(checked.items())
        link.put_roster(fed_id, b"roster", expect=None)
        with closing(transport.open(transport.check_options({**shared, **own_keys}))) as member:
            roster = member.cut(fed_id, []).roster
        assert roster is not None
        assert roster.data == b"roster"

    def test_limits_leave_room_for_a_blob(
        self, transport: Transport, options: Mapping[str, str], open_link: Callable[[], Link], fed_id: str
    ) -> None:
        """A founder makes the place with them: they can be had, and one chunk of the largest size fits."""
        link, limits = open_link(), transport.limits(options)
        assert limits.max_blob_bytes >= link.chunk_bytes
        assert limits.replicas >= 1
        link.create(fed_id, max_blob_bytes=limits.max_blob_bytes, replicas=limits.replicas)
        try:
            link.put_blob(fed_id, ALICE, "01", [b"x" * link.chunk_bytes])
        finally:
            link.destroy(fed_id)

    def test_place_that_cannot_be_reached_is_said_in_time(
        self, transport: Transport, unreachable: Mapping[str, str]
    ) -> None:
        """A caller waits for an answer: nothing may hang."""
        started = time.monotonic()
        with (
            pytest.raises(TransportError),
            closing(transport.open(transport.check_options(unreachable))) as link,
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

    def test_place_made_again_is_empty(self, link: Link, fed_id: str) -> None:
        """Removal leaves nothing behind, also of more than a service lists or deletes at once."""
        blobs = [(peer_id, blob_id) for peer_id in (ALICE, BOB) for blob_id in ("01", "02", "03")]
        for peer_id, blob_id in blobs:
            link.put_blob(fed_id, peer_id, blob_id, [b"chunk"] * 200)
        link.put_roster(fed_id, b"roster", expect=None)
        for peer_id in (ALICE, BOB):
            link.put_head(fed_id, peer_id, b"head", expect=None)
        link.destroy(fed_id)
        link.create(fed_id, max_blob_bytes=MAX_BLOB_BYTES)
        assert link.cut(fed_id, [ALICE, BOB]) == Cut(None, {})
        left = [200 - len(link.missing_chunks(fed_id, *blob, 200)) for blob in blobs]
        assert sum(left) == 0

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

    @pytest.mark.parametrize("bad", ["", "*", ">", "a.b", "AB", "g1", "a b", "a\r\n", "\u0661", "a" * 65])
    def test_ids_that_are_not_hex_are_refused(self, link: Link, fed_id: str, bad: str) -> None:
        """By every call that takes one: no id can reach beyond its own place."""
        calls: list[Callable[[], object]] = [
            lambda: link.create(bad, max_blob_bytes=MAX_BLOB_BYTES),
            lambda: link.destroy(bad),
            lambda: link.cut(bad, []),
            lambda: link.cut(fed_id, [bad]),
            lambda: link.put_roster(bad, b"roster", expect=None),
            lambda: link.put_head(bad, ALICE, b"head", expect=None),
            lambda: link.put_head(fed_id, bad, b"head", expect=None),
            lambda: link.nudge(bad, b"news"),
            lambda: link.listen(bad, ALICE, lambda _: None),
            lambda: link.listen(fed_id, bad, lambda _: None),
        ]
        for ids in ((bad, ALICE, "01"), (fed_id, bad, "01"), (fed_id, ALICE, bad)):
            calls += [
                partial(link.put_blob, *ids, [b"chunk"]),
                partial(link.missing_chunks, *ids, 1),
                partial(link.get_blob, *ids, 1, max_bytes=100),
                partial(link.free_blob, *ids, 1),
            ]
        for call in calls:
            with pytest.raises(ValueError):  # noqa: PT011 (each plugin words it)
                call()

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
        with pytest.raises(ValueError):  # noqa: PT011 (each plugin words it)
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
