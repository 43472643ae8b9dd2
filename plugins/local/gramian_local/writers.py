"""The writers of one SQLite file in this process, who meet and share commits.

SQLite takes one writer at a time and lets the others poll, which is slow and unfair between threads. And nearly all of
a small write's time is its fsync, which one commit for many spares all but one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gramian.together import Meetings


@dataclass(slots=True)
class PendingWrite:
    """Work for a transaction, and what became of it."""

    body: Callable[[sqlite3.Connection], Any]
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


WRITERS: Meetings[Path, PendingWrite] = Meetings()
"""By file."""
