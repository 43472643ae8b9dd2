"""Work that many threads want done at the same moment, done once for all of them by one.

While one thread is at work others line up; one of them then does what all of them want. The more there are, the more
share what one go costs, and a single one waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

from gramian.turns import TURNS, Nap

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class _Call(Generic[T]):
    __slots__ = ("done", "item", "nap")

    def __init__(self, item: T, nap: Nap | None) -> None:
        self.item = item
        self.nap = nap
        self.done = False


class Together(Generic[T]):
    """Where threads meet that want the same kind of work done, at most `most` items in one go."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._mutex = threading.Lock()
        self._calls: list[_Call[T]] = []
        self._at_work = False

    @property
    def waiting(self) -> int:
        """How many items nobody has taken up yet."""
        return len(self._calls)

    def do(self, item: T, work: Callable[[list[T]], None]) -> None:
        """Return when `work` was called with `item`, alone or among others', by this thread or another.

        What becomes of each item `work` writes down in it. If it raises, this call of `do` does, and the others' items
        are worked on again.
        """
        with self._mutex:
            mine = _Call(item, TURNS.nap() if self._at_work else None)
            self._at_work = True
            self._calls.append(mine)
        if mine.nap is not None:
            mine.nap.sleep()
            if mine.done:
                return
        else:
            TURNS.pause()  # who is about to ask for the same comes along
        with self._mutex:
            # This thread's own is the first: who waits longest is woken to work.
            calls = self._calls[: self._most]
            del self._calls[: len(calls)]
        done = False
        try:
            work([call.item for call in calls])
            done = True
        finally:
            self._pass_on(calls[1:], done=done)

    def _pass_on(self, others: list[_Call[T]], *, done: bool) -> None:
        with self._mutex:
            if not done:
                self._calls[:0] = others
            next_ = next(iter(self._calls), None)
            self._at_work = next_ is not None
        if next_ is not None:
            assert next_.nap is not None
            next_.nap.wake()
        if done:
            for call in others:
                assert call.nap is not None
                call.done = True
                call.nap.wake()


class Meetings(Generic[K, T]):
    """A Together for each key, for as long as a thread is there or somebody keeps it."""

    def __init__(self, most: int | None = None) -> None:
        """`most`: as for Together."""
        self._most = most
        self._lock = threading.Lock()
        self._places: WeakValueDictionary[K, Together[T]] = WeakValueDictionary()

    def at(self, key: K) -> Together[T]:
        with self._lock:
            return self._places.setdefault(key, Together(self._most))
