"""What the parts of the suite of transports share: a federation's place, and links to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from gramian.ports import Link, Transport

MAX_BLOB_BYTES = 32 * 2**20
"""Room that each test's federation asks for."""

ALICE, BOB, CAROL = "a1" * 16, "b2" * 16, "c3" * 16


class Links:
    """Fixtures that the tests of `gramian.testing.transport.TransportContract` work with."""

    settle_s = 5.0
    """How long a freed blob's room, or a nudge, may take to show."""
    quiet_s = 0.2
    """How long nothing must arrive for a test to believe that nothing will."""

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

    def _eventually(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.settle_s
        while not holds():
            assert time.monotonic() < deadline, f"does not hold after {self.settle_s} s"
            time.sleep(0.1)
