"""Token stores that let a replay, a second winner or a stranger through."""

from __future__ import annotations

import itertools
import threading
import time

from broken_publish import plugin

from gramian.errors import StoreError
from gramian_local.tokens import SqliteTokenStore


class LetsTwoIn(SqliteTokenStore):
    """Looks first and claims afterwards: right for one thread, wrong for two."""

    def claim(self, key, value, *, now, expires_at):
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT value FROM tokens WHERE key = ? AND expires_at > ?", (key.encode(), now)
            ).fetchone()
        if row is not None:
            return row[0]
        time.sleep(0.02)  # wide enough for another one to look, on any machine
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?, ?)", (key.encode(), value, expires_at))
        return None


class LetsTwoProcessesIn(LetsTwoIn):
    """The same behind a lock, which only the threads of one process know."""

    _lock = threading.Lock()

    def claim(self, key, value, *, now, expires_at):
        with self._lock:
            return super().claim(key, value, now=now, expires_at=expires_at)


class NeverExpires(SqliteTokenStore):
    """Waits for a broom before a claim can be taken again."""

    def claim(self, key, value, *, now, expires_at):
        return super().claim(key, value, now=0, expires_at=expires_at)


class ReleasesForAnyone(SqliteTokenStore):
    """Gives up a claim whoever asks."""

    def release(self, key, *, expect):
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM tokens WHERE key = ?", (key.encode(),)).rowcount == 1


class HidesTheHolder(SqliteTokenStore):
    """Tells the loser its own value."""

    def claim(self, key, value, *, now, expires_at):
        return None if super().claim(key, value, now=now, expires_at=expires_at) is None else value


class GrantsAll:
    """Instead of an error."""

    def claim(self, key, value, *, now, expires_at):
        return None

    def close(self): ...


def _generous(home):
    """While the database cannot be reached everybody wins."""
    try:
        return SqliteTokenStore(home / "tokens.db")
    except StoreError:
        return GrantsAll()


def _store(kind):
    return plugin("gramian_token_store", lambda home: kind(home / "tokens.db"))


wins_in_an_outage = plugin("gramian_token_store", _generous)
_fresh = itertools.count()
lets_two_in = _store(LetsTwoIn)
lets_two_processes_in = _store(LetsTwoProcessesIn)
never_expires = _store(NeverExpires)
releases_for_anyone = _store(ReleasesForAnyone)
hides_the_holder = _store(HidesTheHolder)
forgets_on_restart = plugin("gramian_token_store", lambda home: SqliteTokenStore(home / f"{next(_fresh)}.db"))
