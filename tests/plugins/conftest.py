"""What tests of several plugins share."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest


class SlowProxy:
    """A line to a port of this machine with a latency (each way) and a bandwidth, which can be cut after so many bytes,
    lose answers, or go dead without a word.

    The settings are public and hold at once, for all connections and both directions.
    """

    def __init__(self, port: int, scheme: str) -> None:
        self.latency_s = 0.0
        self.bytes_per_s = float("inf")
        self.is_dead = False
        self._cut_after: int | None = None
        self._answers_to_lose = 0
        self._server_port = port
        self._lock = threading.Lock()
        self._is_closed = False
        self._sockets = [socket.create_server(("127.0.0.1", 0))]
        self.port = self._sockets[0].getsockname()[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size_bytes: int | None) -> None:
        """End the connection over which so many more bytes have gone, either way; None: end none."""
        self._cut_after = size_bytes

    def lose_answers(self, count: int) -> None:
        """End so many connections when the server answers, before the client hears of it."""
        self._answers_to_lose = count

    def cut_all(self) -> None:
        """End all connections now."""
        for each in self._sockets[1:]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            sockets = list(self._sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _is_kept(self, pair: list[socket.socket]) -> bool:
        """Whether `close` will end this connection: it may have come in while that was running."""
        with self._lock:
            if not self._is_closed:
                self._sockets += pair
                return True
        for each in pair:
            each.close()
        return False

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._sockets[0].accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()
                    continue
                if not self._is_kept([client, server]):
                    return
                for source, target in ((client, server), (server, client)):
                    waiting: queue.Queue[tuple[float, bytes]] = queue.Queue(1024)
                    arguments = (waiting, source, target, source is server)
                    threading.Thread(target=self._deliver, args=arguments, daemon=True).start()
                    threading.Thread(target=self._take, args=(source, waiting), daemon=True).start()

    def _take(self, source: socket.socket, waiting: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"more"
        while data:
            try:
                data = source.recv(65_536)
            except OSError:
                data = b""
            waiting.put((time.monotonic() + self.latency_s, data))

    def _deliver(
        self,
        waiting: queue.Queue[tuple[float, bytes]],
        source: socket.socket,
        target: socket.socket,
        is_answer: bool,
    ) -> None:
        with suppress(OSError):
            while True:
                due, data = waiting.get()
                time.sleep(max(0.0, due - time.monotonic()))
                if not data or self._is_cut(len(data)) or (is_answer and self._is_lost(data)):
                    break
                if self.is_dead:  # whatever was on its way is lost, and nobody is told
                    continue
                target.sendall(data)
                time.sleep(len(data) / self.bytes_per_s)
        if not self.is_dead:
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _is_cut(self, size_bytes: int) -> bool:
        if self._cut_after is None:
            return False
        self._cut_after -= size_bytes
        if self._cut_after >= 0:
            return False
        self._cut_after = None
        return True

    def _is_lost(self, data: bytes) -> bool:
        if self._answers_to_lose == 0 or data.startswith(b"HTTP/1.1 100 "):
            return False
        self._answers_to_lose -= 1
        return True


@pytest.fixture
def proxy_to() -> Iterator[Callable[..., SlowProxy]]:
    """Makes proxies to a port, with URLs of that scheme, that end with the test."""
    proxies: list[SlowProxy] = []

    def make(port: int, scheme: str) -> SlowProxy:
        proxies.append(SlowProxy(port, scheme))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
