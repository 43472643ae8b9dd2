"""The writers of one SQLite file in this process: they queue here, and those who wait share a commit.

SQLite takes one writer at a time and lets the others poll, which is slow and unfair between threads. And nearly all of
a small write's time is its fsync, which one commit for many spares all but one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary


@dataclass(slots=True)
class PendingWrite:
    """Work for a transaction, and once it is `done` what became of it."""

    body: Callable[[sqlite3.Connection], Any]
    done: bool = False
    result: Any = None
    error: Exception | None = None

    def attempt(self, connection: sqlite3.Connection) -> None:
        """Run inside a transaction; what the body raises undoes its own changes. Errors of SQLite are everybody's."""
        self.result = self.error = None  # of an attempt that was not committed
        connection.execute("SAVEPOINT one")
        try:
            self.result = self.body(connection)
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 - the thread that waits for it raises it
            connection.execute("ROLLBACK TO one")
            self.error = error
        connection.execute("RELEASE one")


@dataclass(slots=True, weakref_slot=True)
class Queue:
    """Who holds `lock` may write, and finds in `waiting` what others want written."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: deque[PendingWrite] = field(default_factory=deque)

    def take(self) -> list[PendingWrite]:
        return [self.waiting.popleft() for _ in range(len(self.waiting))]

    def put_back(self, writes: list[PendingWrite]) -> None:
        self.waiting.extendleft(reversed(writes))


_queues: WeakValueDictionary[Path, Queue] = WeakValueDictionary()
_lock = threading.Lock()


def queue_of(path: Path) -> Queue:
    """The file's one queue, for as long as somebody keeps it."""
    with _lock:
        return _queues.setdefault(path.resolve(), Queue())
