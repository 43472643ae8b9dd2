"""Requests per second and their latencies with 32 clients, against the same WSGI server returning a constant.

Learns also against the least that a durable, signed write takes on that server (`minimal`): what no application of one
interpreter can pass.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import msgspec

from benchmarks import nodes
from benchmarks.results import Row
from benchmarks.suite import note
from gramian.client.rows import dataframe
from gramian_local.nats_server import NatsServer

CLIENTS = 32
AT_LEAST = 0.25
ROUNDS = 3
INFOS, LEARNS, CONSTANTS = 3000, 1500, 8000
"""Requests per round."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one burst of requests took."""

    seconds: float
    latencies_s: list[float]

    @property
    def rate(self) -> float:
        return len(self.latencies_s) / self.seconds

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_s, n=100)[percent - 1]


@dataclass(slots=True)
class _Client:
    """One keep-alive connection with at most one request under way."""

    line: socket.socket
    started: float = 0.0
    answer: bytearray = field(default_factory=bytearray)

    def send(self, request: bytes) -> None:
        self.answer.clear()
        self.started = time.perf_counter()
        self.line.sendall(request)

    def complete(self) -> bool:
        """Read what has come; whether that is a whole answer. Raises RuntimeError for one that is cut or no 200."""
        part = self.line.recv(65536)
        if not part:
            raise RuntimeError(f"the server hung up after {bytes(self.answer)!r}")
        self.answer += part
        head, end, body = bytes(self.answer).partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:30]!r} {body[:300]!r}")
        return True


def run() -> list[Row]:
    body = msgspec.json.encode(dataframe([f"x{i}" for i in range(5)], "CCCCC", nodes.rows_of(0, 10, 5)))
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats") as nats,
        nodes.federation(directory, nats, 2) as federation,
        _server("benchmarks.constant") as constant_port,
        _server("benchmarks.minimal", federation.sites[0].key, str(directory / "minimal.db")) as minimal_port,
    ):
        site = federation.sites[0]
        port = int(site.server.url.rpartition(":")[2])
        bursts: dict[str, Callable[[], Outcome]] = {
            "constant": lambda: burst(constant_port, [_info(site) for _ in range(CONSTANTS)]),
            "info": lambda: burst(port, [_info(site) for _ in range(INFOS)]),
            "constant, with the learns' bodies": lambda: burst(
                constant_port, [_learn(site, body) for _ in range(CONSTANTS)]
            ),
            "minimal write": lambda: burst(minimal_port, [_learn(site, body) for _ in range(LEARNS)]),
            "learn": lambda: burst(port, [_learn(site, body) for _ in range(LEARNS)]),
        }
        outcomes: dict[str, list[Outcome]] = {name: [] for name in bursts}
        for _ in range(ROUNDS):
            for name, call in bursts.items():
                note(f"load: {name}")
                outcomes[name].append(call())
    constant = outcomes["constant, with the learns' bodies"]
    least = _median_rate(outcomes["minimal write"])
    bound = f"; only verified and written, without a framework: {least:.0f}/s, {least / _median_rate(constant):.2f}"
    return [
        _row("`info`, signed, 32 clients", outcomes["info"], outcomes["constant"]),
        _row("learns of 10 x 5, signed, 32 clients", outcomes["learn"], constant, bound),
    ]


def burst(port: int, requests: list[bytes]) -> Outcome:
    """Send all requests over CLIENTS keep-alive connections, each sending its next when the last was answered."""
    waiting = iter(requests)
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        start = time.perf_counter()
        for _ in range(CLIENTS):
            client = _Client(socket.create_connection(("127.0.0.1", port)))
            client.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(client.line, selectors.EVENT_READ, client)
            client.send(next(waiting))
        while selector.get_map():
            for key, _ in selector.select():
                client = key.data
                if not client.complete():
                    continue
                latencies.append(time.perf_counter() - client.started)
                request = next(waiting, None)
                if request is None:
                    selector.unregister(client.line)
                    client.line.close()
                else:
                    client.send(request)
        return Outcome(time.perf_counter() - start, latencies)


def received(line: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer on a blocking connection."""
    answer = b""
    while True:
        part = line.recv(65536)
        answer += part
        head, end, body = answer.partition(b"\r\n\r\n")
        if not part or (end and len(body) >= _length(head)):
            return int(head.split()[1]), body


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _info(site: nodes.Site) -> bytes:
    return nodes.signed(site, "GET", "/fedml/study/info", query="seal=v2")


def _learn(site: nodes.Site, body: bytes) -> bytes:
    return nodes.signed(site, "POST", "/projects/study/learn", body)


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[int]:
    """The port of a server of this package."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.stdout.close()


def _median_rate(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.rate for outcome in outcomes)


def _row(what: str, ours: list[Outcome], bare: list[Outcome], more: str = "") -> Row:
    """Median rates; latencies of the middle round."""
    middle = sorted(ours, key=lambda outcome: outcome.rate)[len(ours) // 2]
    bare_rate = _median_rate(bare)
    share = middle.rate / bare_rate
    detail = (
        f"{middle.rate:.0f}/s against {bare_rate:.0f}/s, p50 {middle.percentile(50) * 1000:.1f} ms, "
        f"p99 {middle.percentile(99) * 1000:.1f} ms; keep-alive, middle of {ROUNDS}{more}"
    )
    return Row(what, f"{share:.2f} of the constant's rate", f"at least {AT_LEAST:g}", share >= AT_LEAST, detail)
