"""Servers that are away, silent, old, or come and go; connections that break at the worst moment."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from gramian.errors import ContentMissing, RevisionConflict, TransportRefused, TransportUnavailable
from gramian_local.nats_server import NatsServer
from gramian_nats import dial
from gramian_nats.transport import NatsTransport

StartServer = Callable[..., NatsServer]
Pretend = Callable[..., Any]

PEER = "ab" * 16
INFO = {"version": "2.15.0", "jetstream": True, "max_payload": 2**20, "headers": True}


def test_open_unreachable_says_where_and_why(transport: NatsTransport) -> None:
    """Every host that was tried is named with its reason."""
    with pytest.raises(TransportUnavailable) as failed:
        transport.open({"nats_hosts": "nats://127.0.0.1:1,nats://no-such-host.invalid:4222"})
    assert "NATS at 127.0.0.1:1 cannot be reached: Connection refused" in str(failed.value)
    assert "NATS at no-such-host.invalid:4222 cannot be reached" in str(failed.value)


def test_open_second_host_takes_over(transport: NatsTransport, nats_server: NatsServer, fed_id: str) -> None:
    """One dead server of several does not keep a node from working."""
    link = transport.open({"nats_hosts": f"127.0.0.1:1,{nats_server.url}"})
    with pytest.raises(ContentMissing):
        link.cut(fed_id, [])


def test_open_name_of_metadata_address_is_refused(transport: NatsTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is judged by what it resolves to, before anything is called."""

    async def resolved(*_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        return [(2, 1, 6, "", ("10.0.0.1", 4222)), (2, 1, 6, "", ("169.254.169.254", 4222))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", resolved)
    with pytest.raises(TransportRefused, match="metadata"):
        transport.open({"nats_hosts": "innocent.example"})


@pytest.mark.parametrize("info", [None, INFO], ids=["says nothing", "greets"])
def test_open_mute_server_times_out(
    pretend_server: Pretend, transport: NatsTransport, info: dict[str, Any] | None
) -> None:
    """A server that accepts and then says nothing costs no more than the request timeout."""
    server = pretend_server(info, answers_ping=False)
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="did not answer in time"):
        transport.open({"nats_hosts": server.url, "nats_req_timeout": "1"})
    assert time.monotonic() - started < 3


def test_calls_mute_server_each_time_out(pretend_server: Pretend, transport: NatsTransport, fed_id: str) -> None:
    """No call waits for ever on a server that stops answering once connected."""
    calls: list[Callable[[Any], object]] = [
        lambda link: link.create(fed_id, max_blob_bytes=2**20),
        lambda link: link.destroy(fed_id),
        lambda link: link.cut(fed_id, [PEER]),
        lambda link: link.put_roster(fed_id, b"roster", expect=None),
        lambda link: link.put_head(fed_id, PEER, b"head", expect=None),
        lambda link: link.put_blob(fed_id, PEER, "01", [bytes(link.chunk_bytes)] * 40),
        lambda link: link.get_blob(fed_id, PEER, "01", 3, max_bytes=100),
        lambda link: link.missing_chunks(fed_id, PEER, "01", 3),
        lambda link: link.free_blob(fed_id, PEER, "01", 3),
        lambda link: link.free_peer(fed_id, PEER),
        lambda link: link.nudge(fed_id, b"news"),
        lambda link: link.listen(fed_id, PEER, print),
    ]

    def attempt(call: Callable[[Any], object]) -> float:
        link = transport.open({"nats_hosts": pretend_server(INFO).url, "nats_req_timeout": "1"})
        started = time.monotonic()
        with pytest.raises(TransportUnavailable):
            call(link)
        link.close()
        return time.monotonic() - started

    durations = [0.0] * len(calls)

    def record(index: int) -> None:
        durations[index] = attempt(calls[index])

    threads = [threading.Thread(target=record, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert all(0 < duration < 4 for duration in durations), durations


def test_blob_to_a_server_that_stops_reading_times_out(
    pretend_server: Pretend, transport: NatsTransport, fed_id: str
) -> None:
    """Full socket buffers hold up the sender only as long as missing answers would, and the link closes."""
    server = pretend_server(INFO, stops_reading=True)
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": "1"})
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="did not answer in time"):
        link.put_blob(fed_id, PEER, "01", [bytes(link.chunk_bytes)] * 40)
    link.close()
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("version", ["2.10.29", "1.4.1", "nightly", ""])
def test_open_old_server_is_refused(pretend_server: Pretend, transport: NatsTransport, version: str) -> None:
    """The text names the version found and the one needed."""
    server = pretend_server({**INFO, "version": version})
    with pytest.raises(TransportRefused, match=rf"version '{version}', 2\.11 or newer"):
        transport.open({"nats_hosts": server.url})


def test_open_garbage_from_the_port_is_unavailable(pretend_server: Pretend, transport: NatsTransport) -> None:
    """What isn't NATS is told from what is, without an unexpected error."""
    server = pretend_server({"version": 3, "jetstream": "yes"}, answers_ping=False)
    with pytest.raises((TransportUnavailable, TransportRefused)):
        transport.open({"nats_hosts": server.url, "nats_req_timeout": "1"})


def test_server_killed_and_restarted_keeps_heads_and_loses_blobs(
    start_server: StartServer, transport: NatsTransport, fed_id: str
) -> None:
    """The same link goes on after the server is back; `create` brings the blobs' stream back."""
    server = start_server()
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": "5"})
    link.create(fed_id, max_blob_bytes=2**20)
    revision = link.put_head(fed_id, PEER, b"head", expect=None)
    link.put_blob(fed_id, PEER, "01", [b"one", b"two"])
    server.kill()
    with pytest.raises(TransportUnavailable):
        link.cut(fed_id, [PEER])
    server.restart()
    entry = link.cut(fed_id, [PEER]).heads[PEER]
    assert (entry.data, entry.revision) == (b"head", revision)
    assert link.missing_chunks(fed_id, PEER, "01", 2) == [0, 1]
    with pytest.raises(ContentMissing):
        link.get_blob(fed_id, PEER, "01", 2, max_bytes=100)
    with pytest.raises(ContentMissing):
        link.put_blob(fed_id, PEER, "01", [b"one", b"two"])
    link.create(fed_id, max_blob_bytes=2**20)
    link.put_blob(fed_id, PEER, "01", [b"one", b"two"])
    assert link.get_blob(fed_id, PEER, "01", 2, max_bytes=100) == [b"one", b"two"]
    assert link.put_head(fed_id, PEER, b"next", expect=revision) != revision


def test_server_gone_in_mid_call_fails_at_once(
    start_server: StartServer, transport: NatsTransport, fed_id: str
) -> None:
    """A broken connection ends the wait; the request timeout is for servers that are merely silent."""
    server = start_server()
    link = transport.open({"nats_hosts": server.url, "nats_req_timeout": "60"})
    link.create(fed_id, max_blob_bytes=2**28)
    killer = threading.Timer(0.2, server.kill)
    killer.start()
    started = time.monotonic()

    def publish_for_ever() -> None:
        while True:
            link.put_blob(fed_id, PEER, "01", [bytes(link.chunk_bytes)] * 100)

    with pytest.raises(TransportUnavailable):
        publish_for_ever()
    assert time.monotonic() - started < 10
    killer.join()


def test_listener_hears_again_after_a_restart(start_server: StartServer, transport: NatsTransport, fed_id: str) -> None:
    """A resident node needs no restart when NATS had one."""
    server = start_server()
    options = {"nats_hosts": server.url}
    heard = threading.Event()
    stop = transport.open(options).listen(fed_id, PEER, lambda _: heard.set())
    server.kill()
    server.restart()
    sender = transport.open(options)
    deadline = time.monotonic() + 15
    while not heard.wait(0.2):
        assert time.monotonic() < deadline
        sender.nudge(fed_id, b"news")
    stop()


def test_head_whose_reply_is_lost_counts_as_written(transport: NatsTransport, lossy_proxy: Any, fed_id: str) -> None:
    """The bytes are read back: they are there, so the write succeeded."""
    link = transport.open({"nats_hosts": lossy_proxy.url})
    link.create(fed_id, max_blob_bytes=2**20)
    lossy_proxy.lose_next = "reply"
    revision = link.put_head(fed_id, PEER, b"head", expect=None)
    assert lossy_proxy.lose_next is None
    entry = link.cut(fed_id, [PEER]).heads[PEER]
    assert (entry.data, entry.revision) == (b"head", revision)
    link.destroy(fed_id)


def test_head_whose_request_is_lost_is_unavailable(transport: NatsTransport, lossy_proxy: Any, fed_id: str) -> None:
    """Nothing was written, so the caller may try again with the same expectation."""
    link = transport.open({"nats_hosts": lossy_proxy.url})
    link.create(fed_id, max_blob_bytes=2**20)
    lossy_proxy.lose_next = "request"
    with pytest.raises(TransportUnavailable):
        link.put_head(fed_id, PEER, b"head", expect=None)
    link.put_head(fed_id, PEER, b"head", expect=None)
    link.destroy(fed_id)


def test_head_overtaken_while_the_request_is_lost_conflicts(
    transport: NatsTransport, nats_server: NatsServer, lossy_proxy: Any, fed_id: str
) -> None:
    """Another writer got in between: reading again is what the caller has to do."""
    link = transport.open({"nats_hosts": lossy_proxy.url})
    link.create(fed_id, max_blob_bytes=2**20)
    other = transport.open({"nats_hosts": nats_server.url})
    overtaken = threading.Event()

    def overtake() -> None:
        other.put_head(fed_id, PEER, b"other", expect=None)
        overtaken.set()

    lossy_proxy.before_loss = overtake
    lossy_proxy.lose_next = "request"
    with pytest.raises(RevisionConflict):
        link.put_head(fed_id, PEER, b"head", expect=None)
    assert overtaken.is_set()
    link.destroy(fed_id)


def test_closed_link_leaves_its_connection_to_the_next(
    transport: NatsTransport, lossy_proxy: Any, fed_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pulse soon after another saves the handshake, and a connection that died meanwhile is not handed out."""
    options = {"nats_hosts": lossy_proxy.url}
    transport.open(options).close()
    dialled: list[object] = []

    async def counted(*args: Any) -> Any:
        dialled.append(args)
        return await dial.dial(*args)

    monkeypatch.setattr("gramian_nats.pool.dial", counted)
    transport.open(options).close()
    assert dialled == []
    lossy_proxy.lose_next = "request"
    link = transport.open(options)
    assert len(dialled) == 1
    with pytest.raises(ContentMissing):
        link.cut(fed_id, [])


def test_transport_closed_ends_its_links(transport: NatsTransport, nats_server: NatsServer, fed_id: str) -> None:
    """After `close` nothing of the transport works, and it says so as a transport error."""
    options = {"nats_hosts": nats_server.url}
    link = transport.open(options)
    link.listen(fed_id, PEER, print)
    transport.close()
    with pytest.raises(TransportUnavailable):
        link.cut(fed_id, [])
    with pytest.raises(TransportUnavailable):
        transport.open(options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_transport_in_a_forked_child_starts_anew(nats_server: NatsServer) -> None:
    """Servers that fork workers after loading the application keep working, in parent and child."""
    script = f"""
import os
from gramian.errors import ContentMissing
from gramian_nats.transport import NatsTransport
transport, options = NatsTransport(), {{"nats_hosts": "{nats_server.url}", "nats_req_timeout": "5"}}

def use():
    link = transport.open(options)
    try:
        link.cut("ab" * 16, [])
    except ContentMissing:
        link.close()
        return 0
    return 1

assert use() == 0
child = os.fork()
if child == 0:
    os._exit(use())
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert use() == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=30)
