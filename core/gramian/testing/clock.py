"""Clocks for suites of what expires."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Unix seconds that a test can let pass."""

    @property
    def now(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


class FakeClock:
    """A clock that stands still until told otherwise; calling it gives unix seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class LiveClock:
    """The real time in whole seconds; `advance` waits until that many have begun."""

    @property
    def now(self) -> float:
        return float(int(time.time()))

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while (left := end - time.time()) > 0:
            time.sleep(left)


class ShiftedClock:
    """The real time, put forward by what was advanced; calling it gives unix seconds."""

    def __init__(self) -> None:
        self._real = time.time
        self._shift_s = 0.0

    def __call__(self) -> float:
        return self._real() + self._shift_s

    @property
    def now(self) -> float:
        return self()

    def advance(self, seconds: float) -> None:
        self._shift_s += seconds
