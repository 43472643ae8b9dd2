"""Contract of `gramian.ports.Identity`. Subclass, name the class `Test...`, and provide the fixtures.

class TestMyIdentity(IdentityContract):
    @pytest.fixture
    def open_again(self): ...   # () -> another identity of the same node
    @pytest.fixture
    def identity(self, open_again): return open_again()
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

import pytest

from gramian.ports import Identity
from gramian.testing.outages import IdentityOutage

OpenIdentity: TypeAlias = Callable[[], Identity]
KEY_BYTES = 32


class IdentityContract(IdentityOutage):
    """What every identity does. See the module for how to use it."""

    end_s: float | None = None
    """How long after its end a process may be taken for alive, if that can be told."""

    @pytest.fixture
    def open_again(self) -> OpenIdentity:
        raise NotImplementedError("provide `open_again`: a function that opens the same node's identity again")

    @pytest.fixture
    def identity(self, open_again: OpenIdentity) -> Identity:
        raise NotImplementedError("provide `identity`: an identity to test")

    def test_master_key_is_32_bytes_and_the_same_for_every_opening(
        self, identity: Identity, open_again: OpenIdentity
    ) -> None:
        """Secrets that were sealed with it must open for ever."""
        key = identity.master_key
        assert isinstance(key, bytes)
        assert len(key) == KEY_BYTES
        # Compared outside the assert: a failure must not print it.
        same = [identity.master_key == key, open_again().master_key == key]
        assert same == [True, True]

    def test_instances_of_openings_differ(self, identity: Identity, open_again: OpenIdentity) -> None:
        """A mark stays the same while it is held, and can be part of a key: no slash."""
        instances = [identity.instance, *(open_again().instance for _ in range(3))]
        assert len(set(instances)) == len(instances)
        assert all(instances)
        assert "/" not in "".join(instances)
        assert identity.instance == instances[0]

    def test_open_identity_is_alive(self, identity: Identity, open_again: OpenIdentity) -> None:
        """As seen by itself, and by another."""
        other = open_again()
        assert identity.alive(identity.instance)
        assert other.alive(identity.instance)
        assert identity.alive(other.instance)

    @pytest.mark.parametrize("text", ["", "nobody", "..", "../master.key", "0" * 32, "f" * 32, "\u00e9", "a\n"])
    def test_unknown_text_is_not_alive(self, identity: Identity, text: str) -> None:
        """Marks come from stored records: a text that no process left belongs to nobody."""
        assert not identity.alive(text)

    def test_close_may_be_repeated(self, identity: Identity, open_again: OpenIdentity) -> None:
        """And ends nobody else's life."""
        other = open_again()
        identity.close()
        identity.close()
        assert other.alive(other.instance)

    def test_closed_identity_is_seen_as_gone(self, identity: Identity, open_again: OpenIdentity) -> None:
        """Others take up what it had begun."""
        if self.end_s is None:
            pytest.skip("it was not told how long a process may be taken for alive after its end (`end_s`)")
        other = open_again()
        identity.close()
        deadline = time.monotonic() + self.end_s
        while other.alive(identity.instance):
            assert time.monotonic() < deadline, f"a closed identity is alive after {self.end_s} s"
            time.sleep(0.05)
