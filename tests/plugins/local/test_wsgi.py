"""The server of `gramian serve` and its end."""

from __future__ import annotations

import threading

from flask import Flask

from gramian_local import wsgi


def test_server_may_be_stopped_again_when_it_has_ended() -> None:
    """As by a second Ctrl-C, or from a thread that was late."""
    server = wsgi.Server(Flask("empty"), "127.0.0.1", 0, body_limit_bytes=1000)
    thread = threading.Thread(target=server.run)
    thread.start()
    server.stop()
    thread.join(30)
    assert not thread.is_alive()
    server.stop()
