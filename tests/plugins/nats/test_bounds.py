"""A server that sends what no server should: endless, too large, or senseless. A node says so and takes no harm."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from gramian.errors import TransportRefused, TransportUnavailable
from gramian_nats.client import StrictClient
from gramian_nats.parser import BoundedParser
from gramian_nats.tcp import TcpLine
from gramian_nats.transport import NatsTransport
from gramian_nats.websocket import MAX_FRAME_BYTES

PEER = "ab" * 16
MIB = 2**20
INFO = {"version": "2.15.0", "jetstream": True, "max_payload": MIB, "headers": True, "server_id": "x", "proto": 1}
TIMEOUT_S = 10
MUCH_BYTES = 256 * MIB
"""What a server tries to send before it gives up."""
FEW_BYTES = 32 * MIB
"""What gets lost in the buffers of sockets before it learns that nobody reads."""

Answer = Callable[[bytes, bytes], Iterable[bytes]]
_REQUEST = re.compile(rb"H?PUB (?:\$JS|grm)\.\S+ (\S+) [\d ]+\r\n")


def requests(connection: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """The inbox of each request and the client's number for it; in between, PINGs are answered."""
    seen, sid = b"", b""
    while data := connection.recv(65_536):
        connection.sendall(b"PONG\r\n" * data.count(b"PING\r\n"))
        seen = seen[-200:] + data
        for subscription in re.finditer(rb"SUB \S+ +(\d+)\r\n", seen):
            sid = subscription[1]
        while request := _REQUEST.search(seen):
            yield request[1], sid
            seen = seen[request.end() :]


@pytest.fixture
def misbehaving(listening: Any) -> Callable[..., Any]:
    """Starts servers that greet with `greeting` and answer each request with what `answer(inbox, sid)` yields."""

    class Misbehaving(listening):
        def __init__(self, answer: Answer, greeting: bytes) -> None:
            self.sent_bytes, self.was_cut_off = 0, threading.Event()
            self._answer, self._greeting = answer, greeting
            super().__init__(self._converse)

        def _converse(self, connection: socket.socket) -> None:
            connection.sendall(self._greeting)
            for inbox, sid in requests(connection):
                self._send(connection, self._answer(inbox, sid))

        def reset(self) -> None:
            """End the latest connection without a goodbye, as a process that is killed does."""
            self._connections[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._connections[-1].close()

        def _send(self, connection: socket.socket, pieces: Iterable[bytes]) -> None:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    self.sent_bytes += len(piece)
            except OSError:
                self.was_cut_off.set()

    def start(answer: Answer = lambda *_: (), greeting: bytes = b"INFO " + json.dumps(INFO).encode() + b"\r\n") -> Any:
        return Misbehaving(answer, greeting)

    return start


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The clients that are made during the test."""
    made: list[Any] = []
    born = StrictClient.__init__

    def remembered(self: Any, *args: Any, **keys: Any) -> None:
        born(self, *args, **keys)
        made.append(self)

    monkeypatch.setattr(StrictClient, "__init__", remembered)
    return made


@contextmanager
def over_websocket(port: int, certificate: tuple[str, str], directory: Path, frame_bytes: int) -> Iterator[int]:
    """Passes on what a TCP server says, as frames; instead of its first long answer, one frame of zeros if asked to."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        line = web.WebSocketResponse()
        await line.prepare(request)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def pass_back() -> None:
            with suppress(OSError):
                while data := await reader.read(65_536):
                    await line.send_bytes(bytes(frame_bytes) if frame_bytes and len(data) > 10_000 else data)
            await line.close()

        task = asyncio.create_task(pass_back())
        async for message in line:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
        writer.transport.abort()
        await task
        return line

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/", handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        ports.append(runner.addresses[0][1])
        ready.set()
        await asyncio.get_running_loop().run_in_executor(None, done.wait)
        await runner.cleanup()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = [directory / "certificate.pem", directory / "key.pem"]
    for file, text in zip(files, certificate, strict=True):
        file.write_text(text)
    context.load_cert_chain(*files)
    ports: list[int] = []
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        done.set()
        thread.join(10)


@pytest.fixture
def options_for(new_authority: Callable[[], Any], tmp_path: Path) -> Iterator[Callable[..., dict[str, str]]]:
    """The options that lead to a server over TCP, or over a WebSocket."""
    with ExitStack() as stack:

        def find(server: Any, scheme: str, frame_bytes: int = 0) -> dict[str, str]:
            if scheme == "nats":
                return {"nats_hosts": server.url, "nats_req_timeout": str(TIMEOUT_S)}
            authority = new_authority()
            bridge = over_websocket(server.port, authority.issue("localhost"), tmp_path, frame_bytes)
            url = f"wss://localhost:{stack.enter_context(bridge)}"
            return {"nats_hosts": url, "nats_tls_ca": authority.pem, "nats_req_timeout": str(TIMEOUT_S)}

        yield find


def endless(start: bytes) -> Iterator[bytes]:
    """`start`, and then whatever, for long."""
    yield start
    yield from itertools.repeat(b"x" * MIB, MUCH_BYTES // MIB)


ENDLESS: dict[str, tuple[Answer, str]] = {
    "message": (lambda inbox, sid: endless(b"MSG %b %b 99999999999\r\n" % (inbox, sid)), "a message of 99999999999"),
    "message with headers": (
        lambda inbox, sid: endless(b"HMSG %b %b 12 99999999999\r\nNATS/1.0\r\n\r\n" % (inbox, sid)),
        "a message of 99999999999",
    ),
    "headers": (
        lambda inbox, sid: endless(b"HMSG %b %b 9999999 9999999\r\n" % (inbox, sid)),
        "9999999 of them headers",
    ),
    "line": (lambda inbox, sid: endless(b"MSG "), "a line of more than 65536 bytes"),
    "line that nats-py waits at": (
        lambda inbox, sid: endless(b"-ERR no quotes%b\r\n" % (b" " * 5000)),
        "a line of more than 65536 bytes",
    ),
    "size of many digits": (lambda inbox, sid: endless(b"MSG a 1 %b\r\n" % (b"9" * 5000)), "protocol error"),
}


@pytest.mark.parametrize("scheme", ["nats", "wss"])
@pytest.mark.parametrize("what", ENDLESS)
def test_endless_input_ends_the_connection_at_once(
    transport: NatsTransport, misbehaving: Any, options_for: Any, fed_id: str, what: str, scheme: str
) -> None:
    """Nothing of it is gathered: the server finds its connection closed while it has hardly begun."""
    answer, words = ENDLESS[what]
    server = misbehaving(answer)
    link = transport.open(options_for(server, scheme))
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match=words):
        link.cut(fed_id, [PEER])
    assert time.monotonic() - started < TIMEOUT_S / 2
    assert server.was_cut_off.wait(TIMEOUT_S / 2)
    assert server.sent_bytes < FEW_BYTES
    link.close()


def test_frame_that_is_too_large_is_refused(
    transport: NatsTransport, misbehaving: Any, options_for: Any, fed_id: str
) -> None:
    """A WebSocket's frame comes as a whole, so its size is judged before that."""
    server = misbehaving(lambda inbox, sid: [bytes(MIB)])
    link = transport.open(options_for(server, "wss", MAX_FRAME_BYTES + 1))
    with pytest.raises(TransportUnavailable, match="no WebSocket message, or too large a one"):
        link.cut(fed_id, [PEER])
    link.close()


def test_large_frame_is_read_in_pieces_between_which_others_have_their_turn() -> None:
    """So that small messages do not pile up before those whom they are for; and none is lost where a piece ends."""
    received: list[tuple[int, bytes]] = []

    class Client:
        async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, block: bytes | None) -> None:
            received.append((sid, data))

    async def read() -> list[int]:
        client: Any = Client()
        messages = b"".join(b"MSG inbox %d 5\r\n%05d\r\n" % (number, number) for number in range(100_000))
        task = asyncio.create_task(BoundedParser(client).parse(messages))
        seen = []
        while not task.done():
            await asyncio.sleep(0)
            seen.append(len(received))
        return seen

    seen = asyncio.run(read())
    assert received == [(number, b"%05d" % number) for number in range(100_000)]
    assert max(after - before for before, after in itertools.pairwise([0, *seen])) < 4000


def test_answers_to_a_sender_that_is_held_up_do_not_pile_up(
    transport: NatsTransport, misbehaving: Any, fed_id: str
) -> None:
    """The server reads no more and acknowledges without end: nobody takes that in."""

    def acknowledge(inbox: bytes, sid: bytes) -> Iterator[bytes]:
        body = b'{"stream":"x","seq":1}'
        return itertools.repeat(b"MSG %b %b %d\r\n%b\r\n" % (inbox, sid, len(body), body) * 1000, MUCH_BYTES // 50_000)

    server = misbehaving(acknowledge)
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": str(TIMEOUT_S)})
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="more answers than it was asked for"):
        link.put_blob(fed_id, PEER, "01", [bytes(link.chunk_bytes)] * 60)
    assert time.monotonic() - started < TIMEOUT_S
    link.close()


@pytest.mark.parametrize("end", [b"", b"MSG a 1 99999999999\r\n"], ids=["reset", "misbehaviour"])
def test_end_of_the_line_is_noticed_with_something_still_to_be_sent(
    transport: NatsTransport,
    misbehaving: Any,
    clients: list[Any],
    fed_id: str,
    monkeypatch: pytest.MonkeyPatch,
    end: bytes,
) -> None:
    """Which it cannot be any more: whoever waits hears of it at once all the same."""

    async def broken(_: TcpLine) -> None:
        raise ConnectionResetError

    def end_it(inbox: bytes, sid: bytes) -> Iterator[bytes]:
        time.sleep(0.2)  # the request itself is out and done with
        monkeypatch.setattr(TcpLine, "drain", broken)
        clients[0]._pending.append(b"x")
        clients[0]._pending_data_size = 1
        yield end
        if not end:
            server.reset()

    server = misbehaving(end_it)
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": str(TIMEOUT_S)})
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match=r"cannot be|closed"):
        link.cut(fed_id, [PEER])
    assert time.monotonic() - started < TIMEOUT_S / 2
    link.close()


GREETINGS: dict[str, bytes] = {
    "a list": b"INFO []\r\n",
    "nothing": b"INFO null\r\n",
    "addresses that are none": b"INFO " + json.dumps({**INFO, "connect_urls": 7}).encode() + b"\r\n",
    "max_payload in words": b"INFO " + json.dumps({**INFO, "max_payload": "much"}).encode() + b"\r\n",
    "max_payload of nothing": b"INFO " + json.dumps({**INFO, "max_payload": 100}).encode() + b"\r\n",
    "a nonce that is none": b"INFO " + json.dumps({**INFO, "auth_required": True, "nonce": 7}).encode() + b"\r\n",
    "something deep": b"INFO " + b"[" * 20_000 + b"\r\n",
    "no end": b"INFO " + b"x" * MIB,
}
FINE = {"addresses that are none"}


@pytest.mark.parametrize("what", GREETINGS)
def test_greeting_that_makes_no_sense_is_said(transport: NatsTransport, misbehaving: Any, what: str) -> None:
    """As an error of the transport, in time, whatever the login."""
    server = misbehaving(greeting=GREETINGS[what])
    seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    options = {"nats_hosts": server.url, "nats_req_timeout": "2", "nats_sec_nkey_seed": seed}
    if what in FINE:
        transport.open(options).close()
        return
    with pytest.raises(
        (TransportUnavailable, TransportRefused), match=r"makes no sense|does not end|max_payload|parse error"
    ):
        transport.open(options)


def test_servers_recommended_without_end_are_forgotten(
    transport: NatsTransport, misbehaving: Any, clients: list[Any], fed_id: str
) -> None:
    """None is ever called, so none is remembered."""

    def recommend(inbox: bytes, sid: bytes) -> Iterator[bytes]:
        for number in range(100):
            yield b"INFO " + json.dumps({**INFO, "connect_urls": [f"10.0.{number}.1:4222"]}).encode() + b"\r\n"
        yield b"MSG %b %b 11\r\nnot at all!\r\n" % (inbox, sid)

    link = transport.open({"nats_hosts": misbehaving(recommend).url, "nats_req_timeout": "2"})
    with pytest.raises(TransportUnavailable):
        link.cut(fed_id, [PEER])
    assert len(clients[0]._server_pool) == 1
    link.close()


ODD = [
    b"",
    b"null",
    b"[]",
    b"\xff",
    b'{"seq":"1"}',
    b'{"seq":-1}',
    b'{"seq":1e400}',
    b"{}",
    b'{"error":7}',
    b'{"error":{"err_code":"x"}}',
    b'{"error":{"err_code":null}}',
    b'{"error":{"err_code":1e400}}',
    b'{"error":{"description":[]}}',
    b'{"config":[],"state":[]}',
    b'{"config":{},"state":{"subjects":[]}}',
    b'{"config":{"subjects":[1,"a",{}]},"state":{"subjects":{"a":1}}}',
    b'{"config":{"subjects":[1,"a",{}]},"state":{"subjects":{"grm.ab.b.cd.ef.0":"x"}}}',
    b'{"a":' * 5000,
    b'{"state":' + b" " * 2 * MIB + b"1}",
]
CALLS: dict[str, Callable[[Any, str], object]] = {
    "create": lambda link, fed_id: link.create(fed_id, max_blob_bytes=MIB),
    "cut": lambda link, fed_id: link.cut(fed_id, [PEER]),
    "put_roster": lambda link, fed_id: link.put_roster(fed_id, b"roster", expect=None),
    "put_head": lambda link, fed_id: link.put_head(fed_id, PEER, b"head", expect=None),
    "put_blob": lambda link, fed_id: link.put_blob(fed_id, PEER, "01", [b"x"] * 3),
    "get_blob": lambda link, fed_id: link.get_blob(fed_id, PEER, "01", 3, max_bytes=100),
    "missing_chunks": lambda link, fed_id: link.missing_chunks(fed_id, PEER, "01", 3),
}
MEAN_NOTHING_IS_THERE = {b"{}", b'{"seq":"1"}', b'{"seq":-1}', b'{"seq":1e400}'}
"""To whoever asks for subjects: what a server leaves out is none."""


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", ODD, ids=[str(body[:40]) for body in ODD])
def test_odd_answers_are_said_in_words(
    transport: NatsTransport, misbehaving: Any, fed_id: str, body: bytes, call: str
) -> None:
    """Never an error of Python's, which callers would get as a failure of the node."""
    server = misbehaving(lambda inbox, sid: [b"MSG %b %b %d\r\n%b\r\n" % (inbox, sid, len(body), body)])
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": "3"})
    if call == "missing_chunks" and body in MEAN_NOTHING_IS_THERE:
        assert CALLS[call](link, fed_id) == [0, 1, 2]
    else:
        with pytest.raises((TransportUnavailable, TransportRefused), match=r"^NATS "):
            CALLS[call](link, fed_id)
    link.close()
