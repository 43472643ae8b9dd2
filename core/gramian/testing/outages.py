"""What stores and identities do that cannot be reached: parts of their suites.

A test gets what leads nowhere from the fixture `unreachable`, and is skipped without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from gramian.errors import BlobCorrupt, BlobMissing, ConditionFailed, StoreError
from gramian.ports import BlobStore, Identity, Put, StateStore, TokenStore, UploadStore

REASON = "nothing that leads nowhere was given (`unreachable`)"


class _Outage:
    patience_s = 60.0
    """How long one call may take to find that nobody can be reached."""

    @contextmanager
    def _said_in_time(self) -> Iterator[None]:
        started = time.monotonic()
        with pytest.raises(StoreError) as raised:
            yield
        assert time.monotonic() - started < self.patience_s
        # These are about what a store holds, which nobody knows now.
        assert not isinstance(raised.value, ConditionFailed | BlobMissing | BlobCorrupt)


class StateStoreOutage(_Outage):
    """Of state stores."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], StateStore]:
        """Opens a store that leads nowhere; opening may fail already."""
        pytest.skip(REASON)

    def test_store_that_cannot_be_reached_is_said_in_time(self, unreachable: Callable[[], StateStore]) -> None:
        """Callers wait for an answer, and must not take an outage for an empty store."""
        with self._said_in_time(), closing(unreachable()) as store:
            store.get("contract", "key")
        with self._said_in_time(), closing(unreachable()) as store:
            store.write(Put("contract", "key", b"value"))


class TokenStoreOutage(_Outage):
    """Of token stores."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], TokenStore]:
        """Opens a store that leads nowhere; opening may fail already."""
        pytest.skip(REASON)

    def test_store_that_cannot_be_reached_is_said_in_time(self, unreachable: Callable[[], TokenStore]) -> None:
        """Nobody wins a claim meanwhile."""
        now = time.time()
        with self._said_in_time(), closing(unreachable()) as store:
            store.claim("contract", b"value", now=now, expires_at=now + 60)


class BlobStoreOutage(_Outage):
    """Of blob stores."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], BlobStore]:
        """Opens a store that leads nowhere; opening may fail already."""
        pytest.skip(REASON)

    def test_store_that_cannot_be_reached_is_said_in_time(self, unreachable: Callable[[], BlobStore]) -> None:
        """Callers wait for an answer, and must not take an outage for a lost blob."""
        with self._said_in_time(), closing(unreachable()) as store:
            store.put("00", b"data")
        with self._said_in_time(), closing(unreachable()) as store:
            store.get("00", "0" * 64)


class UploadStoreOutage(_Outage):
    """Of stores of uploads."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], UploadStore]:
        """Opens a store that leads nowhere; opening may fail already."""
        pytest.skip(REASON)

    def test_store_that_cannot_be_reached_is_said_in_time(self, unreachable: Callable[[], UploadStore]) -> None:
        """Callers wait for an answer, and must not take an outage for an upload that has not come."""
        with self._said_in_time(), closing(unreachable()) as store:
            store.find("00", "a1")


class IdentityOutage(_Outage):
    """Of identities."""

    @pytest.fixture
    def unreachable(self) -> Callable[[], Identity]:
        """Opens an identity whose key cannot be had; opening may fail already."""
        pytest.skip(REASON)

    def test_key_that_cannot_be_had_is_said_in_time(self, unreachable: Callable[[], Identity]) -> None:
        """A new one in its place would make garbage of all that was sealed."""
        with self._said_in_time(), closing(unreachable()) as identity:
            identity.master_key  # noqa: B018 - it may be looked for only now
