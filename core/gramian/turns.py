"""Turns: of the threads that serve requests one runs, and the next when it waits or is done.

An interpreter runs one thread at a time anyway. But threads that are all ready wrest its lock from each other whenever
one lets go of it, at every query and every file, and a processor has to be woken each time: 75 changes of thread for a
small request when 16 are busy, where 5 do. That costs more than the request itself.

A turn is no lock: nothing may rely on being alone. Who has kept it for PATIENCE_S, busy or blocked, loses it to the
first that waits and runs on beside it. Threads that never ask for turns, such as those of jobs, run as ever.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 0.01


class _Seat:
    """A thread's place among those that take turns: it blocks on `bell`; while it `waits` it is one of those due."""

    __slots__ = ("bell", "waits")

    def __init__(self) -> None:
        self.bell = threading.Lock()
        self.bell.acquire()
        self.waits = False


class Turns:
    """One round of threads. All methods are for any thread; those without a seat pass unhindered."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._mine = threading.local()
        self._holder: _Seat | None = None
        self._since = 0.0
        self._due: deque[_Seat] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Do the block in turns with others that are in such a block."""
        seat = _Seat()
        self._mine.seat = seat
        self._take(seat)
        try:
            yield
        finally:
            self._mine.seat = None
            self._end(seat)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let others have the turn while the block waits for a disk or for another machine."""
        seat = self._seat()
        if seat is None:
            yield
            return
        self._end(seat)
        try:
            yield
        finally:
            # What others wait for is done: before those who only begin.
            self._take(seat, first=True)

    def pause(self) -> None:
        """Let those who are due have their turns first."""
        seat = self._seat()
        if seat is None or not self._due:
            return
        with self._mutex:
            if self._holder is not seat:
                return
            self._line_up(seat)
            self._pass_on()
        self._wait(seat)

    def nap(self) -> Nap:
        """For this thread to sleep until another wakes it."""
        return Nap(self, self._seat())

    def _seat(self) -> _Seat | None:
        return getattr(self._mine, "seat", None)

    def _take(self, seat: _Seat, *, first: bool = False) -> None:
        with self._mutex:
            if self._holder is None:
                self._grant(seat)
                return
            self._line_up(seat, first=first)
        self._wait(seat)

    def _wait(self, seat: _Seat) -> None:
        """Until the seat has the turn, or had waited for it long enough."""
        while not seat.bell.acquire(timeout=PATIENCE_S):
            with self._mutex:
                if seat.waits and time.monotonic() - self._since >= PATIENCE_S:
                    self._due.remove(seat)
                    seat.waits = False
                    self._grant(seat)
                    return

    def _end(self, seat: _Seat) -> None:
        with self._mutex:
            if self._holder is seat:
                self._pass_on()

    def _wake(self, seat: _Seat) -> None:
        with self._mutex:
            self._line_up(seat)
            if self._holder is None:
                self._pass_on()

    def _line_up(self, seat: _Seat, *, first: bool = False) -> None:
        seat.waits = True
        if first:
            self._due.appendleft(seat)
        else:
            self._due.append(seat)

    def _pass_on(self) -> None:
        if not self._due:
            self._holder = None
            return
        seat = self._due.popleft()
        seat.waits = False
        self._grant(seat)
        seat.bell.release()

    def _grant(self, seat: _Seat) -> None:
        self._holder = seat
        self._since = time.monotonic()


class Nap:
    """One sleep of the thread that made it; may be ended before it begins, and must be ended once."""

    __slots__ = ("_bell", "_seat", "_turns")

    def __init__(self, turns: Turns, seat: _Seat | None) -> None:
        self._turns = turns
        self._seat = seat
        if seat is None:
            self._bell = threading.Lock()
            self._bell.acquire()

    def sleep(self) -> None:
        """Others have the turn meanwhile."""
        if self._seat is None:
            self._bell.acquire()
        else:
            self._turns._end(self._seat)
            self._turns._wait(self._seat)

    def wake(self) -> None:
        """End the sleep as soon as it is the sleeper's turn."""
        if self._seat is None:
            self._bell.release()
        else:
            self._turns._wake(self._seat)


TURNS = Turns()
"""Of this process."""
