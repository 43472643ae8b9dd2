"""A snapshot of 64 MB through NATS, against nothing but nats-py moving the same bytes, and the memory that takes."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import nats
from nats.aio.client import Client

from benchmarks import nodes
from benchmarks.results import Row, ratio
from benchmarks.suite import note
from benchmarks.timing import interleaved
from gramian.domain.protocol.head import Chunks
from gramian.ports import Link
from gramian_local.nats_server import NatsServer
from gramian_nats.names import blob_stream, chunk_subjects
from gramian_nats.transport import NatsTransport

T = TypeVar("T")
BLOB_BYTES = 64_000_000
ROOM_BYTES = 320 * 2**20
AT_LEAST = 0.7
MOST_COPIES = 2.5
REPETITIONS = 9
PEER, BLOB, BARE_BLOB = "a1" * 16, "01", "02"


def run() -> list[Row]:
    with nodes.scratch() as directory, NatsServer.start(directory / "nats") as server:
        transport = NatsTransport()
        link = transport.open({"nats_hosts": server.url})
        fed_id = secrets.token_hex(16)
        link.create(fed_id, max_blob_bytes=ROOM_BYTES)
        try:
            # First, for memory that was used before is not given back for good.
            memory = _memory(link, fed_id)
            return [*_speed(link, fed_id, server.url), *memory]
        finally:
            link.close()
            transport.close()


def _speed(link: Link, fed_id: str, url: str) -> list[Row]:
    note("transport: speed")
    chunks = Chunks(secrets.token_bytes(BLOB_BYTES), link.chunk_bytes)
    with Bare(url, fed_id, len(chunks)) as bare:
        put, bare_put = interleaved(
            REPETITIONS, lambda: link.put_blob(fed_id, PEER, BLOB, chunks), lambda: bare.publish(chunks)
        )
        get, bare_get = interleaved(
            REPETITIONS,
            lambda: link.get_blob(fed_id, PEER, BLOB, len(chunks), max_bytes=BLOB_BYTES),
            lambda: bare.fetch(),
        )
    link.free_blob(fed_id, PEER, BARE_BLOB, len(chunks))
    rows = []
    for what, ours, theirs in (("publish", put, bare_put), ("fetch", get, bare_get)):
        rate = f"{BLOB_BYTES / ours.median / 1e6:.0f} MB/s; medians of {REPETITIONS}"
        rows.append(ratio(f"NATS, {what} of a 64 MB snapshot", ours.median, theirs.median, AT_LEAST, rate))
    return rows


def _memory(link: Link, fed_id: str) -> list[Row]:
    """Of this process, above what it has without the snapshot."""
    note("transport: memory")
    own = os.getpid()
    before = nodes.resident_bytes(own)
    chunks = Chunks(secrets.token_bytes(BLOB_BYTES), link.chunk_bytes)
    nodes.reset_peak(own)
    link.put_blob(fed_id, PEER, BLOB, chunks)
    published = nodes.peak_bytes(own) - before
    # The published bytes stay: what fetching takes must not hide in the room that they leave.
    before = nodes.resident_bytes(own)
    nodes.reset_peak(own)
    link.get_blob(fed_id, PEER, BLOB, len(chunks), max_bytes=BLOB_BYTES)
    return [_memory_row("publish", published), _memory_row("fetch", nodes.peak_bytes(own) - before)]


def _memory_row(what: str, peak_bytes: int) -> Row:
    share = peak_bytes / BLOB_BYTES
    detail = f"{peak_bytes / 1e6:.0f} MB above what the process has without it"
    title = f"NATS, memory to {what} 64 MB"
    return Row(title, f"{share:.2f} times the snapshot", f"under {MOST_COPIES:g}", share < MOST_COPIES, detail)


class Bare:
    """nats-py alone, on an event loop that runs while it is called: publishes everything and awaits all
    acknowledgements, and asks for everything in batches as large as the server sends."""

    def __init__(self, url: str, fed_id: str, count: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._stream = blob_stream(fed_id)
        self._subjects = chunk_subjects(fed_id, PEER, BARE_BLOB, count)
        self._client: Client = self._run(nats.connect(url))
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._inbox = self._client.new_inbox()
        self._run(
            self._client.subscribe(self._inbox, cb=self._replies.put, pending_msgs_limit=0, pending_bytes_limit=0)
        )

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._loop.close()

    def publish(self, chunks: Sequence[bytes]) -> None:
        self._run(self._publish(chunks))

    def fetch(self) -> list[bytes]:
        return self._run(self._fetch())

    async def _publish(self, chunks: Sequence[bytes]) -> None:
        for subject, chunk in zip(self._subjects, chunks, strict=True):
            await self._client.publish(subject, chunk, reply=self._inbox)
        for _ in chunks:
            assert b'"seq"' in (await self._replies.get()).data

    async def _fetch(self) -> list[bytes]:
        found: dict[str, bytes] = {}
        while len(found) < len(self._subjects):
            missing = [subject for subject in self._subjects if subject not in found]
            query = json.dumps({"multi_last": missing, "batch": len(missing)}).encode()
            await self._client.publish(f"$JS.API.DIRECT.GET.{self._stream}", query, reply=self._inbox)
            while (message := await self._replies.get()).data:
                found[message.headers["Nats-Subject"]] = message.data
        return [found[subject] for subject in self._subjects]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)
