"""Contract of `gramian.ports.TokenStore`. Subclass, name the class `Test...`, and provide the fixtures.

    class TestMyTokens(TokenStoreContract):
        @pytest.fixture
        def open_again(self): ...   # () -> another store on the same data
        @pytest.fixture
        def store(self, open_again): return open_again()

A store that talks to a server may keep its data between tests: each test uses keys of its own.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TypeAlias

import pytest

from gramian.ports import TokenStore
from gramian.testing.outages import TokenStoreOutage
from gramian.testing.state import race

OpenTokenStore: TypeAlias = Callable[[], TokenStore]


class TokenStoreContract(TokenStoreOutage):
    """What every token store does. See the module for how to use it."""

    threads = 32
    """How many threads race for a claim."""

    @pytest.fixture
    def open_again(self) -> OpenTokenStore:
        raise NotImplementedError("provide `open_again`: a function that opens another store on the same data")

    @pytest.fixture
    def store(self, open_again: OpenTokenStore) -> TokenStore:
        raise NotImplementedError("provide `store`: a store to test")

    @pytest.fixture
    def key(self) -> str:
        """One that nobody else has; what is claimed here expires by itself."""
        return f"contract-{uuid.uuid4().hex}"

    @pytest.fixture
    def now(self) -> float:
        """Near the real time, which servers with their own broom insist on."""
        return time.time()

    def test_claim_free_key_wins(self, store: TokenStore, key: str, now: float) -> None:
        """None means: it is yours."""
        assert store.claim(key, b"mine", now=now, expires_at=now + 60) is None

    @pytest.mark.parametrize("value", [b"", bytes(range(256)), b"x" * 300_000])
    def test_claim_held_key_gives_holder(self, store: TokenStore, key: str, now: float, value: bytes) -> None:
        """The loser learns the holder's value, to the byte, and changes nothing."""
        store.claim(key, value, now=now, expires_at=now + 60)
        assert store.claim(key, b"late", now=now, expires_at=now + 600) == value
        assert store.claim(key, b"later", now=now + 59, expires_at=now + 600) == value

    def test_claim_same_value_again_loses(self, store: TokenStore, key: str, now: float) -> None:
        """A replay carries the same value: it is a loser all the same."""
        store.claim(key, b"same", now=now, expires_at=now + 60)
        assert store.claim(key, b"same", now=now, expires_at=now + 60) == b"same"

    def test_claim_other_key_wins(self, store: TokenStore, key: str, now: float) -> None:
        """Keys that share a beginning, differ by case, or look alike are different."""
        odd = ("2", "%", "/", " ", "\u00e9", "e\u0301", "\U0001f600", "'", "\n")
        for name in (key, key.upper(), *(key + letters for letters in odd)):
            assert store.claim(name, b"", now=now, expires_at=now + 60) is None

    def test_expired_claim_can_be_taken(self, store: TokenStore, key: str, now: float) -> None:
        """At once, from the second of its expiry, without any broom; and the taker holds it then."""
        store.claim(key, b"old", now=now, expires_at=now + 60)
        assert store.claim(key, b"new", now=now + 60, expires_at=now + 120) is None
        assert store.claim(key, b"late", now=now + 119, expires_at=now + 180) == b"new"

    def test_claim_from_many_threads_has_one_winner(
        self, store: TokenStore, open_again: OpenTokenStore, key: str, now: float
    ) -> None:
        """Over two instances; every loser is told the winner's value."""
        stores = [store, open_again()]

        def claim(number: int) -> bytes | None:
            return stores[number % 2].claim(key, b"%d" % number, now=now, expires_at=now + 60)

        answers = race(self.threads, claim)
        assert answers.count(None) == 1
        assert set(answers) == {None, b"%d" % answers.index(None)}

    def test_expired_claim_from_many_threads_has_one_winner(self, store: TokenStore, key: str, now: float) -> None:
        """Taking over an expired claim is as exclusive as a first claim."""
        store.claim(key, b"old", now=now, expires_at=now + 60)

        def claim(number: int) -> bytes | None:
            return store.claim(key, b"%d" % number, now=now + 61, expires_at=now + 120)

        answers = race(self.threads, claim)
        assert answers.count(None) == 1
        assert set(answers) == {None, b"%d" % answers.index(None)}

    def test_replace_with_expected_value_swaps(self, store: TokenStore, key: str, now: float) -> None:
        """Value and expiry are the new ones."""
        store.claim(key, b"running", now=now, expires_at=now + 60)
        assert store.replace(key, b"done", expect=b"running", now=now, expires_at=now + 600)
        assert store.claim(key, b"late", now=now + 599, expires_at=now + 900) == b"done"

    def test_replace_otherwise_changes_nothing(self, store: TokenStore, key: str, now: float) -> None:
        """Another value, an expired claim, no claim at all."""
        assert not store.replace(key, b"new", expect=b"", now=now, expires_at=now + 60)
        store.claim(key, b"held", now=now, expires_at=now + 60)
        assert not store.replace(key, b"new", expect=b"other", now=now, expires_at=now + 600)
        assert store.claim(key, b"late", now=now, expires_at=now + 60) == b"held"
        assert not store.replace(key, b"new", expect=b"held", now=now + 60, expires_at=now + 600)
        assert store.claim(key, b"next", now=now + 60, expires_at=now + 120) is None

    def test_release_with_expected_value_frees_key(self, store: TokenStore, key: str, now: float) -> None:
        """The next claim wins."""
        store.claim(key, b"mine", now=now, expires_at=now + 60)
        assert store.release(key, expect=b"mine")
        assert store.claim(key, b"next", now=now, expires_at=now + 60) is None

    def test_release_otherwise_changes_nothing(self, store: TokenStore, key: str, now: float) -> None:
        """Nobody gives up another's claim."""
        assert not store.release(key, expect=b"")
        store.claim(key, b"theirs", now=now, expires_at=now + 60)
        assert not store.release(key, expect=b"mine")
        assert store.claim(key, b"late", now=now, expires_at=now + 60) == b"theirs"

    def test_release_and_claim_from_many_threads_never_has_two_holders(
        self, store: TokenStore, key: str, now: float
    ) -> None:
        """Whoever holds the key is alone with it until it gives it up."""
        holders: list[int] = []
        most: list[int] = []

        def hold(number: int) -> None:
            for _ in range(5):
                if store.claim(key, b"%d" % number, now=now, expires_at=now + 60) is None:
                    holders.append(number)
                    most.append(len(holders))
                    holders.remove(number)
                    assert store.release(key, expect=b"%d" % number)

        race(8, hold)
        assert set(most) == {1}

    def test_claims_survive_reopening(
        self, store: TokenStore, open_again: OpenTokenStore, key: str, now: float
    ) -> None:
        """A restart must not let a replay through."""
        store.claim(key, b"seen", now=now, expires_at=now + 60)
        store.close()
        assert open_again().claim(key, b"replay", now=now + 1, expires_at=now + 60) == b"seen"
