"""The NATS transport: `gramian.ports.Transport` and `Link`, synchronous over one event loop per process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from gramian.domain.names import check_hex_id
from gramian.errors import ContentMissing, RevisionConflict, TransportUnavailable
from gramian.ports import MAX_CUT_PEERS, Cut, Limits, Traffic
from gramian_nats import member_logins, names
from gramian_nats.allowed import require_allowed
from gramian_nats.blobs import absent_chunks, free_chunks, free_subjects, get_chunks, put_chunks
from gramian_nats.connection import Connection, Meter
from gramian_nats.entries import limit_bytes, read_cut, read_entries, write_entry
from gramian_nats.listener import MAX_NUDGE_BYTES, Listener
from gramian_nats.loop import LoopThread, shared_loop
from gramian_nats.member_logins import FROM_REDEMPTION
from gramian_nats.options import SECRET_OPTIONS, NatsOptions, parse_options
from gramian_nats.pool import Pool
from gramian_nats.streams import create_streams, delete_streams

T = TypeVar("T")

MAX_CHUNK_BYTES = 900 * 2**10
_HEADER_ROOM_BYTES = 4 * 2**10


class NatsTransport:
    """Opens links to NATS servers. Thread-safe; needs no set-up, and connects when a link is opened."""

    secret_options = SECRET_OPTIONS

    def __init__(self, allowed_hosts: Sequence[str] = ()) -> None:
        """`allowed_hosts`: patterns of servers that options may name, as in `gramian_nats.allowed`; empty for all."""
        self._allowed_hosts = allowed_hosts
        self._lock = threading.Lock()
        self._loop: LoopThread | None = None
        self._pool = Pool()
        self._listeners: set[Listener] = set()

    def check_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """The `nats_` keys, normalised. Raises InvalidRequest naming a bad or missing one and the remedy."""
        return self._checked(options).as_mapping()

    def shared_options(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """All but the client certificate, and but the login where it is not shared (nats_sec_shared)."""
        return parse_options(options).shared()

    def limits(self, options: Mapping[str, str]) -> Limits:
        checked = parse_options(options)
        return Limits(max_blob_bytes=checked.max_memory_bytes, replicas=checked.replicas)

    def awaits_login(self, options: Mapping[str, str]) -> bool:
        """Whether the login comes with the answer to the redemption."""
        return parse_options(options).member_logins == FROM_REDEMPTION

    def member_options(
        self, options: Mapping[str, str], fed_id: str, peer_id: str, given: Sequence[Mapping[str, str]]
    ) -> Mapping[str, str]:
        """The login of one member, if this node hands logins out (`nats_member_creds`). Raises TransportRefused."""
        logins = parse_options(options).member_logins
        if logins is None or logins == FROM_REDEMPTION:
            return {}
        login = member_logins.login_for(logins, fed_id, peer_id, given)
        return {**login, member_logins.OPTION: ""}  # at the member, instead of the word that it is to come

    def lock_out(self, options: Mapping[str, str], granted: Mapping[str, str]) -> str:
        """What the operator must do so that an evicted member, given `granted`, reaches NATS no more."""
        known = parse_options(options)
        if granted:
            logins = known.member_logins
            return member_logins.removal(granted, member_logins.account_of(logins) if logins else "")
        if not known.has_login and known.tls_cert is not None:
            return "have the NATS server refuse its certificate: until then it can still disturb others"
        if not known.has_login:
            return "NATS lets everybody in: the evicted member is not heard any more, but it can still disturb others"
        if known.is_login_shared:
            return (
                "the members share one NATS login: the evicted member is not heard any more, but it can still disturb "
                "others until that login is changed at the server and at every node (setTransport)"
            )
        return "remove its NATS login from the server's configuration"

    def open(self, options: Mapping[str, str]) -> NatsLink:
        """Connect, or take the connection that an earlier link with equal options left behind.

        Raises InvalidRequest, TransportUnavailable, TransportRefused.
        """
        loop, pool = self._running()
        return NatsLink(loop, pool, self._checked(options), self._listeners)

    def close(self) -> None:
        """Close every connection. Links end with it, and no new ones can be opened."""
        loop, pool = self._running()
        for listener in list(self._listeners):
            listener.stop()
        loop.run(pool.close())

    def _checked(self, options: Mapping[str, str]) -> NatsOptions:
        parsed = parse_options(options)
        require_allowed(parsed.hosts, self._allowed_hosts)
        return parsed

    def _running(self) -> tuple[LoopThread, Pool]:
        """The loop and its pool; a forked child starts anew, for it has neither thread nor connections."""
        with self._lock:
            loop = shared_loop()
            if self._loop is not loop:
                if self._loop is not None:
                    self._pool, self._listeners = Pool(), set()
                self._loop = loop
            return loop, self._pool


class NatsLink:
    """A line to one NATS server. A lost connection is replaced at the next call."""

    chunk_bytes: int

    def __init__(self, loop: LoopThread, pool: Pool, options: NatsOptions, listeners: set[Listener]) -> None:
        self._loop = loop
        self._pool = pool
        self._options = options
        self._all_listeners = listeners
        self._own_listeners: set[Listener] = set()
        self._meter = Meter()
        self._connection: Connection | None = None
        self._is_closed = False
        connection = loop.run(self._line(options.timeout_s))
        self.chunk_bytes = min(MAX_CHUNK_BYTES, connection.max_payload_bytes - _HEADER_ROOM_BYTES)

    def create(self, fed_id: str, *, max_blob_bytes: int, replicas: int = 1) -> None:
        check_hex_id(fed_id, "fed_id")
        self._call(lambda line: create_streams(line, fed_id, max_blob_bytes, replicas))

    def destroy(self, fed_id: str) -> None:
        check_hex_id(fed_id, "fed_id")
        self._call(lambda line: delete_streams(line, fed_id))

    def cut(self, fed_id: str, peers: Sequence[str]) -> Cut:
        if len(peers) > MAX_CUT_PEERS:
            raise ValueError(f"a cut has at most {MAX_CUT_PEERS} peers, not {len(peers)}")
        for peer_id in peers:
            check_hex_id(peer_id, "peer_id")
        check_hex_id(fed_id, "fed_id")
        return self._call(lambda line: read_cut(line, fed_id, peers))

    def put_roster(self, fed_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, names.roster_subject(fed_id), data, expect)

    def put_head(self, fed_id: str, peer_id: str, data: bytes, *, expect: str | None) -> str:
        return self._put(fed_id, names.head_subject(fed_id, peer_id), data, expect)

    def put_blob(self, fed_id: str, peer_id: str, blob_id: str, chunks: Sequence[bytes]) -> str:
        subjects = names.chunk_subjects(fed_id, peer_id, blob_id, len(chunks))
        pairs = zip(subjects, map(self._checked, chunks), strict=True)
        return str(self._call(lambda line: put_chunks(line, names.blob_stream(fed_id), pairs)))

    def missing_chunks(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, since: str = "") -> list[int]:
        subjects = names.chunk_subjects(fed_id, peer_id, blob_id, count)
        prefix = names.blob_prefix(fed_id, peer_id, blob_id)
        after = int(since) if since else None
        return self._call(lambda line: absent_chunks(line, names.blob_stream(fed_id), prefix, subjects, after))

    def get_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int, *, max_bytes: int) -> list[memoryview]:
        subjects = names.chunk_subjects(fed_id, peer_id, blob_id, count)
        return self._call(lambda line: get_chunks(line, names.blob_stream(fed_id), subjects, max_bytes))

    def free_blob(self, fed_id: str, peer_id: str, blob_id: str, count: int) -> None:
        subjects = names.chunk_subjects(fed_id, peer_id, blob_id, count)
        prefix = names.blob_prefix(fed_id, peer_id, blob_id)
        try:
            self._call(lambda line: free_chunks(line, names.blob_stream(fed_id), prefix, subjects))
        except ContentMissing:  # the stream went in between, and the blob with it
            return

    def free_peer(self, fed_id: str, peer_id: str) -> None:
        stream, subjects = names.blob_stream(fed_id), names.peer_blob_subjects(fed_id, peer_id)
        try:
            self._call(lambda line: free_subjects(line, stream, subjects, names.peer_prefix(fed_id, peer_id)))
        except ContentMissing:
            return

    def nudge(self, fed_id: str, data: bytes) -> None:
        subject = names.nudge_subject(fed_id)
        if len(data) > MAX_NUDGE_BYTES:
            raise ValueError(f"a nudge has at most {MAX_NUDGE_BYTES} bytes, not {len(data)}")

        async def publish_and_flush(line: Connection) -> None:
            await line.publish(subject, data)
            await line.round_trip()

        self._call(publish_and_flush)

    def listen(self, fed_id: str, peer_id: str, on_nudge: Callable[[bytes], None]) -> Callable[[], None]:
        check_hex_id(peer_id, "peer_id")
        listener = Listener(self._loop, self._options, names.nudge_subject(fed_id), on_nudge)
        listener.start()
        self._own_listeners.add(listener)
        self._all_listeners.add(listener)

        def stop() -> None:
            listener.stop()
            self._own_listeners.discard(listener)
            self._all_listeners.discard(listener)

        return stop

    def traffic(self) -> Traffic:
        """What this link sent and received, requests and acknowledgements included, nudges heard left out."""
        return Traffic(sent_bytes=self._meter.sent_bytes, received_bytes=self._meter.received_bytes)

    def close(self) -> None:
        """Stop listening and leave the connection to the next link. May be repeated."""
        self._is_closed = True
        for listener in self._own_listeners:
            listener.stop()
        self._all_listeners -= self._own_listeners
        self._own_listeners.clear()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._loop.run(self._pool.give(self._options, connection))

    def _checked(self, chunk: bytes) -> bytes:
        if not 0 < len(chunk) <= self.chunk_bytes:
            raise ValueError(f"chunks have 1 to {self.chunk_bytes} bytes")
        return chunk

    def _put(self, fed_id: str, subject: str, data: bytes, expect: str | None) -> str:
        """Compare-and-set. A lost answer leaves open what happened, so the entry is read back then."""
        if len(data) > limit_bytes(fed_id, subject):
            raise ValueError(f"an entry has at most {limit_bytes(fed_id, subject)} bytes, not {len(data)}")
        half_s = self._options.timeout_s / 2
        try:
            return self._call(lambda line: write_entry(line, fed_id, subject, data, expect), half_s)
        except TransportUnavailable:
            entry = self._call(lambda line: read_entries(line, fed_id, [subject]), half_s).get(subject)
            if entry is not None and entry.revision != expect and entry.data == data:
                return entry.revision
            if (entry.revision if entry is not None else None) == expect:
                raise
            raise RevisionConflict("somebody else wrote while the connection was lost") from None

    def _call(self, work: Callable[[Connection], Coroutine[Any, Any, T]], within_s: float | None = None) -> T:
        return self._loop.run(self._work(work, self._options.timeout_s if within_s is None else within_s))

    async def _work(self, work: Callable[[Connection], Coroutine[Any, Any, T]], within_s: float) -> T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        connection = await self._line(within_s / 2)
        return await connection.bounded(work(connection), within_s - (loop.time() - started))

    async def _line(self, within_s: float) -> Connection:
        """The connection, or a new one in place of a lost one."""
        if self._is_closed:
            raise TransportUnavailable("this link is closed")
        if self._connection is not None and not self._connection.usable:
            lost, self._connection = self._connection, None
            await self._pool.give(self._options, lost)
        if self._connection is None:
            self._connection = await self._pool.take(self._options, within_s)
            self._connection.meter = self._meter
        return self._connection
