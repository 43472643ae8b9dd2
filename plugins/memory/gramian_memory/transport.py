"""The transport within one process: `gramian.ports.Transport` and `Link` over a `Space`."""

from __future__ import annotations

import logging
import queue
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from gramian.domain.names import check_hex_id
from gramian.errors import ContentMissing, InvalidRequest, Refused, TransportUnavailable
from gramian.ports import MAX_CHUNKS, MAX_CUT_PEERS, Cut, Limits, Traffic
from gramian_memory import space
from gramian_memory.space import ROSTER, Space

CHUNK_BYTES = 2**20
MAX_WAITING = 64
DEFAULT_MAX_BYTES = 2**30

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class MemoryTransport:
    """Opens links to spaces of this process. Thread-safe."""

    secret_options: frozenset[str] = frozenset()

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """`memory_space` (nodes that name the same one meet) and `memory_max_bytes`. Raises InvalidRequest."""
        name = options.get("memory_space", "")
        if not _NAME.fullmatch(name):
            raise InvalidRequest(
                "memory_space must be 1 to 64 letters, digits or _ . -: the name under which nodes of one process meet"
            )
        text = options.get("memory_max_bytes") or str(DEFAULT_MAX_BYTES)
        if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) == 0:
            raise InvalidRequest("memory_max_bytes must be a whole number of bytes from 1")
        return {"memory_space": name, "memory_max_bytes": str(int(text))}

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        return self.check_options(options)

    def limits(self, options: Mapping[str, str]) -> Limits:
        return Limits(max_blob_bytes=int(self.check_options(options)["memory_max_bytes"]))

    def open(self, options: Mapping[str, str]) -> MemoryLink:
        return MemoryLink(space.named(self.check_options(options)["memory_space"]))

    def close(self) -> None:
        """Spaces stay: other nodes of this process may use them."""


class MemoryLink:
    """A line to one space."""

    chunk_bytes = CHUNK_BYTES

    def __init__(self, space: Space) -> None:
        self._space: Space | None = space
        self._stops: list[Callable[[], None]] = []
        self._sent_bytes = self._received_bytes = 0

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:  # noqa: ARG002 - one copy only
        self._open().create(check_hex_id(fed_id, "fed_id"), max_blob_bytes)

    def destroy(self, fed_id: str) -> None:
        self._open().destroy(check_hex_id(fed_id, "fed_id"))

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        if len(peers) > MAX_CUT_PEERS:
            raise ValueError(f"a cut has at most {MAX_CUT_PEERS} peers, not {len(peers)}")
        keys = {check_hex_id(peer_id, "peer_id"): _head(peer_id) for peer_id in peers}
        entries = self._open().entries(check_hex_id(fed_id, "fed_id"))
        heads = {peer_id: entries[key] for peer_id, key in keys.items() if key in entries}
        self._received_bytes += sum(len(entry.data) for entry in heads.values())
        return Cut(entries.get(ROSTER), heads)

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, ROSTER, data, expect)

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, _head(peer_id), data, expect)

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        _check_blob(fed_id, peer_id, blob_id, len(chunks))
        if not all(0 < len(chunk) <= self.chunk_bytes for chunk in chunks):
            raise ValueError(f"chunks have 1 to {self.chunk_bytes} bytes")
        last = 0
        for index, chunk in enumerate(chunks):
            last = self._open().put_chunk(fed_id, (peer_id, blob_id, index), bytes(chunk))
            self._sent_bytes += len(chunk)
        return str(last)

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        _check_blob(fed_id, peer_id, blob_id, count)
        found = self._open().chunks(fed_id, peer_id, blob_id)
        if since and any(number > int(since) for _, number in found.values()):
            return list(range(count))
        return [index for index in range(count) if index not in found]

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> list[bytes]:
        _check_blob(fed_id, peer_id, blob_id, count)
        self._open().require(fed_id)
        found = self._open().chunks(fed_id, peer_id, blob_id)
        wanted = [found[index][0] for index in range(count) if index in found]
        if sum(map(len, wanted)) > max_bytes:
            raise Refused(f"a blob is larger than the {max_bytes} bytes allowed")
        if len(wanted) < count:
            raise ContentMissing("chunks of the blob are missing")
        self._received_bytes += sum(map(len, wanted))
        return wanted

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        _check_blob(fed_id, peer_id, blob_id, count)
        self._open().free(fed_id, peer_id, blob_id)

    def free_peer(self, fed_id: str, peer_id: str) -> None:
        self._open().free(check_hex_id(fed_id, "fed_id"), check_hex_id(peer_id, "peer_id"))

    def nudge(self, fed_id: str, data: bytes) -> None:
        self._open().nudge(check_hex_id(fed_id, "fed_id"), data)

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        check_hex_id(peer_id, "peer_id")
        stop = _hearing(self._open(), check_hex_id(fed_id, "fed_id"), on_nudge)
        self._stops.append(stop)
        return stop

    def traffic(self) -> Traffic:
        return Traffic(self._sent_bytes, self._received_bytes)

    def close(self) -> None:
        """May be repeated."""
        for stop in self._stops:
            stop()
        self._space = None

    def _put(self, fed_id: str, key: str, data: bytes, expect: str | None) -> str:
        self._sent_bytes += len(data)
        return self._open().write(check_hex_id(fed_id, "fed_id"), key, data, expect)

    def _open(self) -> Space:
        if self._space is None:
            raise TransportUnavailable("this link is closed")
        return self._space


def _head(peer_id: str) -> str:
    return f"heads/{check_hex_id(peer_id, 'peer_id')}"


def _check_blob(fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
    for text, what in ((fed_id, "fed_id"), (peer_id, "peer_id"), (blob_id, "blob_id")):
        check_hex_id(text, what)
    if not 1 <= count <= MAX_CHUNKS:
        raise ValueError(f"a blob has 1 to {MAX_CHUNKS} chunks, not {count}")


def _hearing(space: Space, fed_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
    """Call `on_nudge` from a thread of its own until the returned function is called; too many at once are dropped."""
    waiting: queue.Queue[bytes] = queue.Queue(MAX_WAITING)
    stopped = threading.Event()

    def enqueue(data: bytes) -> None:
        with suppress(queue.Full):
            waiting.put_nowait(data)

    def call_back() -> None:
        while True:
            data = waiting.get()
            if stopped.is_set():
                return
            try:
                on_nudge(data)
            except Exception:  # noqa: BLE001 - one bad call must not end the hearing of later nudges
                _log.exception("a nudge could not be handled")

    def stop() -> None:
        space.unlisten(fed_id, enqueue)
        stopped.set()
        enqueue(b"")  # a full queue wakes the thread just as well

    threading.Thread(target=call_back, name="gramian-nudges", daemon=True).start()
    space.listen(fed_id, enqueue)
    return stop
