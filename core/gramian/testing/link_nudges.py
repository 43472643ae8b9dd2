"""The part of the suite of transports that is about nudges."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable

import pytest

from gramian.ports import Link
from gramian.testing.links import BOB, CAROL, Links


class LinkNudges(Links):
    """Word of something new, for whoever listens."""

    has_nudges = True
    """False for a transport that calls nobody."""

    @pytest.fixture
    def listeners(self, open_link: Callable[[], Link]) -> Callable[[], Link]:
        """Opens links that hear nudges."""
        if not self.has_nudges:
            pytest.skip("this transport has no nudges")
        return open_link

    def test_nudge_reaches_listeners_of_its_federation_only(
        self, listeners: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """A nudge arrives at another link, from another thread, and not at another federation."""
        heard, elsewhere = threading.Event(), threading.Event()
        received: list[tuple[bytes, int]] = []

        def on_nudge(data: bytes) -> None:
            received.append((data, threading.get_ident()))
            heard.set()

        stop = listeners().listen(fed_id, BOB, on_nudge)
        stop_other = listeners().listen(secrets.token_hex(16), BOB, lambda _: elsewhere.set())
        link.nudge(fed_id, b"news")
        assert heard.wait(self.settle_s)
        assert not elsewhere.wait(self.quiet_s)
        stop()
        stop_other()
        assert [data for data, _ in received] == [b"news"]
        assert received[0][1] != threading.get_ident()

    def test_nudge_after_unsubscribing_is_not_heard(
        self, listeners: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """The returned function ends the listening, and may be called again."""
        received: list[bytes] = []
        witness = threading.Event()
        stop = listeners().listen(fed_id, BOB, received.append)
        stop_witness = listeners().listen(fed_id, CAROL, lambda _: witness.set())
        stop()
        stop()
        link.nudge(fed_id, b"news")
        assert witness.wait(self.settle_s)
        stop_witness()
        assert received == []

    def test_failing_callback_hears_the_next_nudge(
        self, listeners: Callable[[], Link], link: Link, fed_id: str
    ) -> None:
        """An error in a callback ends neither the listening nor the process."""
        second = threading.Event()

        def on_nudge(data: bytes) -> None:
            if data == b"first":
                raise RuntimeError("on purpose")
            second.set()

        stop = listeners().listen(fed_id, BOB, on_nudge)
        link.nudge(fed_id, b"first")
        link.nudge(fed_id, b"second")
        assert second.wait(self.settle_s)
        stop()
