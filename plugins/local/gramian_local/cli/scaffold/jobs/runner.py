"""Jobs run on threads of this process here. A queue of yours would take `cid` and `number`, and have
`gramian.usecases.jobs.execute(node, cid, number)` called by whoever takes them out; `patience_s` is then above 0."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gramian.errors import Unavailable

log = logging.getLogger(__name__)


class AcmeJobRunner:
    """`gramian.ports.JobRunner`."""

    patience_s = 0.0

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="acme-job")

    def submit(self, cid: str, number: int, execute: Callable[[], None]) -> str:
        """Raises Unavailable once the server stops."""
        try:
            self._pool.submit(_logged, execute)
        except RuntimeError as error:
            raise Unavailable("the server is stopping and takes no more jobs: try again when it is back") from error
        return ""

    def failure(self, handle: str) -> str:
        return ""

    def close(self) -> None:
        """What waits is dropped: its record tells that its process is gone."""
        self._pool.shutdown(cancel_futures=True)


def _logged(execute: Callable[[], None]) -> None:
    try:
        execute()
    except Exception:
        log.exception("a job ended with an error that it did not handle")
