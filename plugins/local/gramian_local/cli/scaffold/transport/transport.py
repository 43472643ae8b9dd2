"""The bus is a SQLite file here, so that everything works as it stands: put yours in its place.

What matters is kept apart: heads and rosters change by compare-and-swap, blobs are chunks that can come again and go
again, nudges may be lost.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from gramian.domain.names import check_hex_id
from gramian.errors import (
    ContentMissing,
    InvalidRequest,
    Refused,
    RevisionConflict,
    TransportFull,
    TransportUnavailable,
)
from gramian.ports import MAX_CHUNKS, MAX_CUT_PEERS, Cut, Entry, Limits, Traffic

log = logging.getLogger(__name__)

CHUNK_BYTES = 1_000_000
DEFAULT_MAX_BYTES = 2**30
KEPT_NUDGES = 1_000
_TABLES = (
    "places (fed TEXT PRIMARY KEY, max_bytes INTEGER NOT NULL)",
    "entries (fed TEXT, key TEXT, data BLOB, revision TEXT, PRIMARY KEY (fed, key))",
    """chunks (number INTEGER PRIMARY KEY AUTOINCREMENT, fed TEXT, peer TEXT, blob TEXT, position INTEGER, data BLOB,
        UNIQUE (fed, peer, blob, position))""",
    "nudges (number INTEGER PRIMARY KEY AUTOINCREMENT, fed TEXT, data BLOB)",
)


class AcmeTransport:
    """`gramian.ports.Transport`: opens links to the bus. Thread-safe."""

    secret_options: frozenset[str] = frozenset()

    def __init__(self, *, poll_s: float) -> None:
        self._poll_s = poll_s

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """`acme_path` and `acme_max_bytes`. Raises InvalidRequest."""
        path = options.get("acme_path", "")
        if not path.startswith("/") or not path.isprintable():
            raise InvalidRequest("acme_path is needed: the absolute path of the file that all nodes share")
        size = options.get("acme_max_bytes") or str(DEFAULT_MAX_BYTES)
        if not size.isdecimal() or not 0 < int(size) < 2**50:
            raise InvalidRequest("acme_max_bytes must be a positive number of bytes")
        return {"acme_path": path, "acme_max_bytes": str(int(size))}

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Leave out here what only this node may have, such as its own login."""
        return self.check_options(options)

    def limits(self, options: Mapping[str, str]) -> Limits:
        return Limits(max_blob_bytes=int(self.check_options(options)["acme_max_bytes"]))

    def open(self, options: Mapping[str, str]) -> AcmeLink:
        """Raises TransportUnavailable."""
        return AcmeLink(Path(self.check_options(options)["acme_path"]), self._poll_s)

    def close(self) -> None:
        """Nothing is shared between links."""


class AcmeLink:
    """`gramian.ports.Link`: an open line to the bus, for one federation at a time."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, path: Path, poll_s: float) -> None:
        self._path = path
        self._poll_s = poll_s
        self._sent_bytes = self._received_bytes = 0
        self._closed = threading.Event()
        with self._bus() as bus:
            for table in _TABLES:
                bus.execute(f"CREATE TABLE IF NOT EXISTS {table}")

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:
        with self._bus() as bus:
            bus.execute("INSERT OR IGNORE INTO places VALUES (?, ?)", (_hex(fed_id, "fed_id"), max_blob_bytes))

    def destroy(self, fed_id: str) -> None:
        with self._bus() as bus:
            for table in ("places", "entries", "chunks", "nudges"):
                bus.execute(f"DELETE FROM {table} WHERE fed = ?", (_hex(fed_id, "fed_id"),))

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        if len(peers) > MAX_CUT_PEERS:
            raise ValueError(f"a cut has at most {MAX_CUT_PEERS} peers, not {len(peers)}")
        wanted = {_head(peer_id): peer_id for peer_id in peers}
        with self._place(fed_id) as bus:
            rows = bus.execute("SELECT key, data, revision FROM entries WHERE fed = ?", (fed_id,)).fetchall()
        entries = {key: Entry(data, revision) for key, data, revision in rows}
        heads = {peer_id: entries[key] for key, peer_id in wanted.items() if key in entries}
        self._received_bytes += sum(len(entry.data) for entry in heads.values())
        return Cut(entries.get("roster"), heads)

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, "roster", data, expect)

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, _head(peer_id), data, expect)

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        """The mark is the number of the last write: a later one has a greater number."""
        place = _blob(fed_id, peer_id, blob_id, len(chunks))
        if not all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks):
            raise ValueError(f"chunks have 1 to {CHUNK_BYTES} bytes")
        with self._place(fed_id) as bus:
            rows = [(*place, position, chunk) for position, chunk in enumerate(chunks)]
            bus.executemany(
                "INSERT OR REPLACE INTO chunks (fed, peer, blob, position, data) VALUES (?, ?, ?, ?, ?)", rows
            )
            (used,) = bus.execute("SELECT sum(length(data)) FROM chunks WHERE fed = ?", (fed_id,)).fetchone()
            (room,) = bus.execute("SELECT max_bytes FROM places WHERE fed = ?", (fed_id,)).fetchone()
            if used > room:
                raise TransportFull("there is no room for the blob: raise acme_max_bytes")
            (mark,) = bus.execute("SELECT max(number) FROM chunks").fetchone()
        self._sent_bytes += sum(map(len, chunks))
        return str(mark)

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        place = _blob(fed_id, peer_id, blob_id, count)
        with self._bus() as bus:
            query = "SELECT position, number FROM chunks WHERE fed = ? AND peer = ? AND blob = ?"
            found = dict(bus.execute(query, place).fetchall())
        if since and any(number > int(since) for number in found.values()):
            return list(range(count))
        return [position for position in range(count) if position not in found]

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> list[bytes]:
        place = _blob(fed_id, peer_id, blob_id, count)
        where = "FROM chunks WHERE fed = ? AND peer = ? AND blob = ? AND position < ?"
        with self._place(fed_id) as bus:
            (size,) = bus.execute(f"SELECT sum(length(data)) {where}", (*place, count)).fetchone()
            if (size or 0) > max_bytes:
                raise Refused(f"the blob has {size} bytes, {max_bytes} are allowed")
            rows = bus.execute(f"SELECT data {where} ORDER BY position", (*place, count)).fetchall()
        if len(rows) < count:
            raise ContentMissing("chunks of the blob are missing")
        self._received_bytes += size
        return [data for (data,) in rows]

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        with self._bus() as bus:
            place = _blob(fed_id, peer_id, blob_id, count)
            bus.execute("DELETE FROM chunks WHERE fed = ? AND peer = ? AND blob = ?", place)

    def nudge(self, fed_id: str, data: bytes) -> None:
        with self._bus() as bus:
            done = bus.execute("INSERT INTO nudges (fed, data) VALUES (?, ?)", (_hex(fed_id, "fed_id"), data))
            bus.execute("DELETE FROM nudges WHERE number <= ?", ((done.lastrowid or 0) - KEPT_NUDGES,))

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        _hex(fed_id, "fed_id"), _hex(peer_id, "peer_id")
        stopped = threading.Event()
        with self._bus() as bus:
            (last,) = bus.execute("SELECT coalesce(max(number), 0) FROM nudges").fetchone()
        arguments = (fed_id, last, stopped, on_nudge)
        threading.Thread(target=self._hear, args=arguments, name="acme-nudges", daemon=True).start()
        return stopped.set

    def traffic(self) -> Traffic:
        return Traffic(self._sent_bytes, self._received_bytes)

    def close(self) -> None:
        self._closed.set()

    def _put(self, fed_id: str, key: str, data: bytes, expect: str | None) -> str:
        revision = secrets.token_hex(8)
        with self._place(fed_id) as bus:
            row = bus.execute("SELECT revision FROM entries WHERE fed = ? AND key = ?", (fed_id, key)).fetchone()
            if (row[0] if row else None) != expect:
                raise RevisionConflict("there is another revision by now")
            bus.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", (fed_id, key, data, revision))
        self._sent_bytes += len(data)
        return revision

    def _hear(self, fed_id: str, last: int, stopped: threading.Event, on_nudge: Callable[[bytes], None]) -> None:
        while not stopped.wait(self._poll_s) and not self._closed.is_set():
            rows: list[tuple[int, bytes]] = []
            with suppress(TransportUnavailable), self._bus() as bus:
                query = "SELECT number, data FROM nudges WHERE fed = ? AND number > ? ORDER BY number"
                rows = bus.execute(query, (fed_id, last)).fetchall()
            for number, data in rows:
                last = number
                if stopped.is_set():
                    return
                try:
                    on_nudge(data)
                except Exception:
                    log.exception("a nudge could not be handled")

    @contextmanager
    def _bus(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it happens or nothing, and the bus's own errors become Gramian's."""
        if self._closed.is_set():
            raise TransportUnavailable("this link is closed")
        try:
            with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as bus:
                bus.execute("BEGIN IMMEDIATE")
                yield bus
                bus.execute("COMMIT")
        except sqlite3.Error as error:
            raise TransportUnavailable(f"the bus at {self._path} cannot be used: {error}") from error

    @contextmanager
    def _place(self, fed_id: str) -> Iterator[sqlite3.Connection]:
        """As `_bus`, where the federation has its place. Raises ContentMissing."""
        with self._bus() as bus:
            if bus.execute("SELECT 1 FROM places WHERE fed = ?", (_hex(fed_id, "fed_id"),)).fetchone() is None:
                raise ContentMissing("the federation has no place on this bus")
            yield bus


def _hex(text: str, what: str) -> str:
    return check_hex_id(text, what)


def _head(peer_id: str) -> str:
    return f"head/{_hex(peer_id, 'peer_id')}"


def _blob(fed_id: str, peer_id: str, blob_id: str, count: int) -> tuple[str, str, str]:
    if not 1 <= count <= MAX_CHUNKS:
        raise ValueError(f"a blob has 1 to {MAX_CHUNKS} chunks, not {count}")
    return _hex(fed_id, "fed_id"), _hex(peer_id, "peer_id"), _hex(blob_id, "blob_id")
