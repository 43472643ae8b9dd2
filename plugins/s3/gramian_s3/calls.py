"""Requests in a few threads at once, and no longer waited for than the options allow.

The timeouts of sockets alone would not do: they are per read and per attempt, so that a call could take many of them.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeAlias, TypeVar

from gramian.errors import TransportUnavailable

T = TypeVar("T")

AT_ONCE = 8
"""Most requests of one call at once."""


class Pace:
    """The time that a call may still take: the request timeout, anew with each sign of life."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.progressed()

    def progressed(self) -> None:
        self._ends_at = time.monotonic() + self._timeout_s

    def left_s(self) -> float:
        return self._ends_at - time.monotonic()


class Upload(io.BytesIO):
    """A body whose going out, piece by piece, is a sign of life."""

    def __init__(self, data: bytes, pace: Pace) -> None:
        super().__init__(data)
        self._pace = pace

    def read(self, size: int | None = -1, /) -> bytes:
        self._pace.progressed()
        return super().read(size)


class Calls:
    """The requests of one link."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._is_closed = False

    def one(self, request: Callable[[Pace], T], within_s: float | None = None) -> T:
        return self.all([request], within_s)[0]

    def all(self, requests: Iterable[Callable[[Pace], T]], within_s: float | None = None) -> list[T]:
        """The results in order. The first error ends it: what has not begun then never does.

        Raises TransportUnavailable when there is no sign of life for `within_s`, or else the timeout. What is under
        way goes on unheeded, and may yet have its effect: as with any answer that is lost.
        """
        if self._is_closed:
            raise TransportUnavailable("this link is closed")
        pace = Pace(self._timeout_s if within_s is None else within_s)
        tasks: _Tasks = deque((Future(), request) for request in requests)
        futures = [future for future, _ in tasks]
        for _ in range(min(AT_ONCE, len(tasks))):
            # Not of an executor: the process could not end before its threads, and they may wait for a dead server.
            threading.Thread(target=_work, args=(tasks, pace), name="gramian-s3", daemon=True).start()
        try:
            _await(futures, pace)
        finally:
            tasks.clear()
        return [future.result() for future in futures]

    def close(self) -> None:
        """May be repeated; does not wait for what is under way."""
        self._is_closed = True


_Tasks: TypeAlias = deque[tuple[Future[Any], Callable[[Pace], Any]]]


def _work(tasks: _Tasks, pace: Pace) -> None:
    while True:
        try:
            future, request = tasks.popleft()
        except IndexError:
            return
        try:
            future.set_result(request(pace))
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            future.set_exception(error)


def _await(futures: Iterable[Future[Any]], pace: Pace) -> None:
    pending = set(futures)
    while pending:
        left_s = pace.left_s()
        if left_s <= 0:
            raise TransportUnavailable("AWS did not answer in time: try again, or raise aws_req_timeout")
        done, pending = wait(pending, left_s, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            pace.progressed()
