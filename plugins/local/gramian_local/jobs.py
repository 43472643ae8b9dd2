"""Job runner on threads of this process."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from gramian.errors import Unavailable
from gramian.ports import JobRunner

_logger = logging.getLogger(__name__)

MAX_QUEUED: Final = 1000


class ThreadJobRunner(JobRunner):
    """`gramian.ports.JobRunner`: first come, first served, on a few daemon threads.

    Daemon threads never hold the process up: what `close` does not wait for ends with it, and the job's
    record, whose owner is then gone, is found and failed by others.
    """

    def __init__(self, workers: int = 2, *, grace_s: float = 10.0) -> None:
        """`grace_s`: how long `close` waits for running jobs."""
        self._grace_s = grace_s
        self._queue: deque[Callable[[], None]] = deque()
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        for number in range(workers):
            threading.Thread(target=self._work, name=f"gramian-job-{number}", daemon=True).start()

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:  # noqa: ARG002 - for other runners
        """Queue `execute`. Raises Unavailable when closed, or when MAX_QUEUED jobs wait already."""
        with self._changed:
            if self._closed:
                raise Unavailable("The server is stopping and takes no more jobs: try again when it is back.")
            if len(self._queue) >= MAX_QUEUED:
                raise Unavailable(f"{MAX_QUEUED} jobs are waiting already: try again later.")
            self._queue.append(execute)
            self._changed.notify()
        return ""

    def close(self) -> None:
        """Drop what is queued and wait for what runs, `grace_s` at most; may be called again."""
        with self._changed:
            self._closed = True
            if self._queue:
                _logger.warning("%d queued jobs were dropped because the server stops.", len(self._queue))
            self._queue.clear()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._running == 0, self._grace_s):
                _logger.warning("%d jobs were still running when the server stopped.", self._running)

    def _work(self) -> None:
        while (run := self._next()) is not None:
            try:
                run()
            except Exception:
                _logger.exception("A job ended with an error that it did not handle.")
            finally:
                self._finished()

    def _next(self) -> Callable[[], None] | None:
        """Wait for a job; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self._running += 1
            return self._queue.popleft()

    def _finished(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
