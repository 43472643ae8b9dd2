"""Lines that are long, thin, cut in mid-transfer, or dead without a word."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gramian.client import BadRequest
from gramian.errors import TransportUnavailable
from gramian_nats.transport import NatsLink, NatsTransport

PEER = "ab" * 16
MIB = 2**20
TIMEOUT_S = 1


@pytest.fixture
def link(transport: NatsTransport, slow_proxy: Any, fed_id: str) -> Iterator[NatsLink]:
    link = transport.open({"nats_hosts": slow_proxy.url, "nats_req_timeout": str(TIMEOUT_S)})
    link.create(fed_id, max_blob_bytes=64 * MIB)
    yield link
    link.destroy(fed_id)


def test_blob_over_a_long_line_does_not_wait_for_each_chunk(link: NatsLink, slow_proxy: Any, fed_id: str) -> None:
    """40 small chunks at 200 ms there and back: some exchanges, not 40 of them."""
    slow_proxy.latency_s = 0.1
    chunks = [secrets.token_bytes(1000) for _ in range(40)]
    started = time.monotonic()
    link.put_blob(fed_id, PEER, "01", chunks)
    assert link.missing_chunks(fed_id, PEER, "01", 40) == []
    assert link.get_blob(fed_id, PEER, "01", 40, max_bytes=MIB) == chunks
    assert time.monotonic() - started < 40 * 0.2 / 2
    slow_proxy.latency_s = 0.0


def test_blob_over_a_thin_line_takes_longer_than_the_timeout(link: NatsLink, slow_proxy: Any, fed_id: str) -> None:
    """The request timeout bounds the wait for the next sign of life, not the whole transfer."""
    slow_proxy.bytes_per_s = 2 * MIB
    chunks = [secrets.token_bytes(MIB // 2) for _ in range(6)]
    started = time.monotonic()
    link.put_blob(fed_id, PEER, "01", chunks)
    assert time.monotonic() - started > 1.2 * TIMEOUT_S
    started = time.monotonic()
    assert link.get_blob(fed_id, PEER, "01", 6, max_bytes=4 * MIB) == chunks
    assert time.monotonic() - started > 1.2 * TIMEOUT_S


def test_blob_cut_in_the_middle_fails_at_once_and_can_be_repeated(link: NatsLink, slow_proxy: Any, fed_id: str) -> None:
    """Both ways; the same link goes on over a new connection."""
    chunks = [secrets.token_bytes(link.chunk_bytes) for _ in range(6)]
    slow_proxy.cut_after(3 * link.chunk_bytes)
    started = time.monotonic()
    with pytest.raises(TransportUnavailable):
        link.put_blob(fed_id, PEER, "01", chunks)
    assert time.monotonic() - started < TIMEOUT_S
    assert link.missing_chunks(fed_id, PEER, "01", 6) != []
    link.put_blob(fed_id, PEER, "01", chunks)
    slow_proxy.cut_after(3 * link.chunk_bytes)
    with pytest.raises(TransportUnavailable):
        link.get_blob(fed_id, PEER, "01", 6, max_bytes=8 * MIB)
    assert link.get_blob(fed_id, PEER, "01", 6, max_bytes=8 * MIB) == chunks


def test_dead_line_is_given_up_after_the_timeout(link: NatsLink, slow_proxy: Any, fed_id: str) -> None:
    """Nobody says that the connection is gone; the next call makes a new one."""
    assert link.cut(fed_id, []).roster is None
    slow_proxy.is_dead = True
    started = time.monotonic()
    with pytest.raises(TransportUnavailable, match="did not answer in time"):
        link.cut(fed_id, [])
    assert time.monotonic() - started < 3 * TIMEOUT_S
    slow_proxy.is_dead = False
    assert link.cut(fed_id, []).roster is None


def test_line_that_died_while_idle_is_replaced(transport: NatsTransport, slow_proxy: Any, fed_id: str) -> None:
    """A connection kept between pulses is tried before it is used: the pulse takes a little longer, and works."""
    options = {"nats_hosts": slow_proxy.url, "nats_req_timeout": "10"}
    first = transport.open(options)
    first.create(fed_id, max_blob_bytes=MIB)
    first.close()
    slow_proxy.is_dead = True
    revive = threading.Timer(1.0, setattr, (slow_proxy, "is_dead", False))
    revive.start()
    second = transport.open(options)
    assert second.cut(fed_id, []).roster is None
    second.destroy(fed_id)
    revive.join()


def test_listeners_all_hear_again_after_their_lines_were_cut(
    transport: NatsTransport, slow_proxy: Any, fed_id: str
) -> None:
    """Fifty at once, and none needs help."""
    link = transport.open({"nats_hosts": slow_proxy.url, "nats_req_timeout": "20"})
    heard = [threading.Event() for _ in range(50)]
    stops = [link.listen(fed_id, PEER, lambda _, event=event: event.set()) for event in heard]
    slow_proxy.cut_all()
    deadline = time.monotonic() + 30
    while not all(event.is_set() for event in heard):
        assert time.monotonic() < deadline
        link.nudge(fed_id, b"news")
        time.sleep(0.2)
    for stop in stops:
        stop()


def test_sync_cut_in_mid_blob_publishes_nothing_by_halves(
    site: Callable[[str], Any], slow_proxy: Any, assert_converged: Callable[..., None]
) -> None:
    """Others see the head only once the blob is whole; the next sync puts the rest."""
    sites = [site("one"), site("two")]
    sites[0].create(nats_hosts=slow_proxy.url)
    sites[1].client.join("study", sites[0].invite())
    for each in sites:
        each.learn(20)
        each.client.sync("study")
    sites[0].client.sync("study")
    assert_converged(sites, 40)
    sites[0].learn(30)
    refused = 0
    for allowed in (500, 1_000, 2_000, 3_000, 4_000):
        slow_proxy.cut_after(allowed)
        try:
            sites[0].client.sync("study")
        except BadRequest:
            refused += 1
        slow_proxy.cut_after(None)
        sites[1].client.sync("study")
    assert refused > 1
    assert sites[1].client.sync_stats("study")["rcvErrorByPeer"] == {}
    for each in sites * 2:
        each.client.sync("study")
    assert_converged(sites, 70)
