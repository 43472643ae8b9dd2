"""The server of `gramian serve`: threads that take turns, reading while requests wait, and its end."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from flask import Flask, request

from gramian_local import wsgi


@contextmanager
def serving(view: Callable[[str], str]) -> Iterator[tuple[wsgi.Server, Callable[..., bytes]]]:
    """A server whose every path is `view`, and a function that sends a body to a path and returns the answer."""
    app = Flask("test")
    app.add_url_rule("/<path:path>", view_func=view, methods=["POST"])
    server = wsgi.Server(app, "127.0.0.1", 0, body_limit_bytes=2**26)
    thread = threading.Thread(target=server.run)
    thread.start()

    def post(path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("POST", path, body)
            return connection.getresponse().read()
        finally:
            connection.close()

    try:
        yield server, post
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_request_that_waits_for_another_does_not_keep_it() -> None:
    """As a join does that the same server answers."""
    served = threading.Event()

    def view(path: str) -> str:
        if path == "first":
            return str(served.wait(20))
        served.set()
        return "second"

    with serving(view) as (_, post), ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, "/first")
        time.sleep(0.05)
        assert post("/second") == b"second"
        assert first.result(30) == b"True"


def test_large_body_is_read_at_the_pace_of_the_line_while_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a piece a nap, which for these 16 MB would take minutes."""
    monkeypatch.setattr(wsgi, "BACKLOG_NAP_S", 0.05)
    over = threading.Event()

    def view(path: str) -> str:
        if path == "long":
            over.wait(30)
        return str(len(request.get_data()))

    with serving(view) as (server, post), ThreadPoolExecutor(wsgi.THREADS + 9) as pool:
        queue = server._server.task_dispatcher.queue
        crowd = [pool.submit(post, "/long") for _ in range(wsgi.THREADS + 8)]
        try:
            assert eventually(lambda: len(queue) == 8)
            large = pool.submit(post, "/large", bytes(2**24))
            assert eventually(lambda: len(queue) == 9)
        finally:
            over.set()
        assert large.result(30) == b"%d" % 2**24
        assert {each.result(30) for each in crowd} == {b"0"}


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it holds within 20 seconds."""
    until = time.monotonic() + 20
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def test_server_may_be_stopped_again_when_it_has_ended() -> None:
    """As by a second Ctrl-C, or from a thread that was late."""
    server = wsgi.Server(Flask("empty"), "127.0.0.1", 0, body_limit_bytes=1000)
    thread = threading.Thread(target=server.run)
    thread.start()
    server.stop()
    thread.join(30)
    assert not thread.is_alive()
    server.stop()
