"""Real `gramian serve` processes: the demo, restarts in the middle, signals, ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import psutil
import pytest

from gramian.client import Client
from gramian.errors import PluginError
from gramian_local.nats_server import NatsServer
from gramian_local.process import ServerProcess

GRAMIAN = [sys.executable, "-m", "gramian_local"]
NAMES = [f"x{i}" for i in range(6)]
FEDERATION = {"fed_name": "study", "sync_sched": "m1", "nats_stream_max_memory": 2**24}


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, len(NAMES)))


def eventually(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.1)


@pytest.mark.parametrize("options", [[], ["--encrypt"]])
def test_demo_holds_and_leaves_nothing_behind(tmp_path: Path, options: list[str]) -> None:
    """Exit status 0, equal digests, tiny differences, no process and no file left."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    demo = subprocess.Popen([*GRAMIAN, "demo", "--json", *options], stdout=subprocess.PIPE, text=True, env=env)
    children: set[psutil.Process] = set()
    while demo.poll() is None:
        children.update(psutil.Process(demo.pid).children(recursive=True))
        time.sleep(0.05)
    output, _ = demo.communicate()
    assert demo.returncode == 0
    figures = json.loads(output)
    assert sum(figures["rows"].values()) == 442
    assert set(figures["federated_rows"].values()) == {442}
    assert len(set(figures["digests"].values())) == 1
    assert figures["difference"] < 1e-12
    assert figures["models_equal"]
    assert len(children) >= 4
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list(tmp_path.iterdir()) == []


def test_restart_of_every_process_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    """Servers and NATS stop after half of the rows; the same homes continue, pulses included."""
    with NatsServer.start(tmp_path / "nats") as nats_server:
        first = ServerProcess(tmp_path / "a", "--port", "0", "--no-nats")
        second = ServerProcess(tmp_path / "b", "--port", "0", "--no-nats")
        with first, second:
            admin, peer = first.create_user("a"), second.create_user("b")
            admin.create_federation("p", nats_hosts=nats_server.url, **FEDERATION)
            peer.join("p", admin.invite("p", "password", first.url))
            for seed, client in enumerate((admin, peer)):
                client.learn("p", NAMES, "C" * 6, rows(seed))
                client.start_pulse("p")
            for client in (admin, peer, admin, peer):
                client.sync("p")
            keys = (admin.secret_key, peer.secret_key)
            before = admin.project_info("p")["params"]["fed_digest"]
        nats_server.restart()
        with first, second:
            admin, peer = Client(first.url, "a", keys[0]), Client(second.url, "b", keys[1])
            # The pulses that were on go on by themselves: they fill the NATS that lost its memory.
            eventually(lambda: all(c.project_info("p")["params"]["fed_digest"] == before for c in (admin, peer)))
            assert admin.project_info("p")["params"]["fed_pulsing"] == "true"
            peer.learn("p", NAMES, "C" * 6, rows(7))
            for client in (admin, peer, admin, peer):
                client.sync("p")
            params = [client.project_info("p")["params"] for client in (admin, peer)]
            assert {p["fed_rows"] for p in params} == {"180"}
            assert len({p["fed_digest"] for p in params}) == 1
            admin.build("p", "m", "x0")
        assert first.log_path.read_text().count("Traceback") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_server_and_embedded_nats_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Exit status 0, and no child survives."""
    server = ServerProcess(tmp_path / "home", "--port", "0", "--nats-port", "0")
    with server:
        children = psutil.Process(server.pid).children(recursive=True)
        assert any("nats" in " ".join(child.cmdline()) for child in children)
        os.kill(server.pid, number)
        assert server.wait(15) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_killed_server_takes_its_nats_with_it_and_starts_again(tmp_path: Path) -> None:
    """kill -9: nothing stays on the port, and what was acknowledged is there."""
    server = ServerProcess(tmp_path / "home", "--port", "0", "--nats-port", "0")
    server.start()
    client = server.create_user("a")
    client.create_project("p")
    client.learn("p", NAMES, "C" * 6, rows(1))
    children = psutil.Process(server.pid).children(recursive=True)
    server.kill()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    with server:
        again = Client(server.url, "a", client.secret_key)
        assert again.project_info("p")["params"]["local_rows"] == "60"


def test_started_server_survives_many_clients_at_once(tmp_path: Path) -> None:
    """32 ask for a federation as its first requests, in threads that change all the time: each meets classes whose
    decoding another is just working out. Without the lock of `domain.typed` every second start crashes by that."""
    count, starts, site = 32, 4, tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.setswitchinterval(1e-6)\n")
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    server = ServerProcess(tmp_path / "home", "--port", "0", "--no-nats", env={"PYTHONPATH": path})
    with NatsServer.start(tmp_path / "nats") as nats_server, server:
        key = server.create_user("a").secret_key
        Client(server.url, "a", key).create_federation("p", nats_hosts=nats_server.url, **FEDERATION)
    together = Barrier(count)

    def ask(_: int) -> str:
        client = Client(server.url, "a", key)
        together.wait(30)
        return str(client.federation_info("p"))

    for _ in range(starts):
        with server, ThreadPoolExecutor(count) as pool:
            assert len(set(pool.map(ask, range(count)))) == 1
            assert server.stop() == 0


def test_busy_port_with_a_usable_nats_is_used_and_said(tmp_path: Path) -> None:
    """Two servers on one laptop share the NATS of the first."""
    with NatsServer.start(tmp_path / "nats") as nats_server:
        server = ServerProcess(tmp_path / "home", "--port", "0", "--nats-port", str(nats_server.port))
        with server:
            assert "using the NATS 2." in server.ready_line
            client = server.create_user("a")
            client.create_federation("p", nats_hosts=nats_server.url, **FEDERATION)


def test_port_of_something_else_is_refused_in_words(tmp_path: Path) -> None:
    """Neither the REST port nor the NATS port can be taken from others."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with pytest.raises(PluginError, match="cannot listen"):
            ServerProcess(tmp_path / "a", "--port", port, "--no-nats").start()
        with pytest.raises(PluginError, match="port"):
            ServerProcess(tmp_path / "b", "--port", "0", "--nats-port", port).start()


def test_unpersisted_project_ends_with_its_server(tmp_path: Path) -> None:
    """After a clean stop and after a kill alike; persisted ones stay."""
    server = ServerProcess(tmp_path / "home", "--port", "0", "--no-nats")
    for end in (server.stop, server.kill):
        server.start()
        if end == server.stop:
            key = server.create_user("a").secret_key
        client = Client(server.url, "a", key)
        client.create_project(f"kept-{end.__name__}")
        client.create_project("gone", persist=False)
        assert "gone" in client.projects()
        end()
    with server:
        assert Client(server.url, "a", key).projects() == ["kept-kill", "kept-stop"]


def test_user_commands_create_list_and_delete(tmp_path: Path) -> None:
    """One JSON line from create; a given key is kept; a bad one is refused; a user with projects stays."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*GRAMIAN, "user", *words, "--home", str(tmp_path)], capture_output=True, text=True)

    created = json.loads(run("create", "a").stdout)
    assert created["cid"] == "a"
    given = run("create", "b", "--secret-key", "t6Zat/ZAJyYBtmVXATUDCQ==")
    assert json.loads(given.stdout) == {"cid": "b", "secretKey": "t6Zat/ZAJyYBtmVXATUDCQ=="}
    assert run("list").stdout.split() == ["a", "b"]
    for words, text in (
        (("create", "a"), "exists already"),
        (("create", "c", "--secret-key", "abcd"), "16"),
        (("create", "../c"), "customer id"),
        (("delete", "nobody"), "no user"),
    ):
        refused = run(*words)
        assert refused.returncode == 1
        assert text in refused.stderr
        assert "Traceback" not in refused.stderr
    assert run("delete", "b").returncode == 0
    assert run("list").stdout.split() == ["a"]


def test_nudge_makes_resident_peers_pulse_at_once(tmp_path: Path) -> None:
    """fullSyncRequest of one node brings the others' new rows soon, whatever the schedule."""
    first = ServerProcess(tmp_path / "a", "--port", "0", "--no-nats")
    second = ServerProcess(tmp_path / "b", "--port", "0", "--no-nats")
    with NatsServer.start(tmp_path / "nats") as nats_server, first, second:
        admin, peer = first.create_user("a"), second.create_user("b")
        admin.create_federation("p", nats_hosts=nats_server.url, **{**FEDERATION, "sync_sched": "d1"})
        peer.join("p", admin.invite("p", "password", first.url))
        peer.start_pulse("p")
        eventually(lambda: peer.sync_stats("p")["errorLog"] == [])
        time.sleep(2.5)  # until the peer listens
        peer.learn("p", NAMES, "C" * 6, rows(1))
        admin.learn("p", NAMES, "C" * 6, rows(2))
        admin.sync("p")
        eventually(lambda: peer.project_info("p")["params"]["fed_rows"] == "120")


@pytest.mark.parametrize("push", [True, False])
def test_published_rows_reach_resident_peers_at_once_unless_they_do_not_want_it(tmp_path: Path, push: bool) -> None:
    """Whatever the schedule: what one node publishes, the others merge, again and again, in a moment."""
    with (
        NatsServer.start(tmp_path / "nats") as nats_server,
        ServerProcess(tmp_path / "a", "--port", "0", "--no-nats") as first,
        ServerProcess(tmp_path / "b", "--port", "0", "--no-nats") as second,
    ):
        admin, peer = first.create_user("a"), second.create_user("b")
        admin.create_federation("p", nats_hosts=nats_server.url, **{**FEDERATION, "sync_sched": "d1"})
        peer.join("p", admin.invite("p", "password", first.url), fed_push=push)
        peer.start_pulse("p")
        time.sleep(2.5)  # until the peer listens
        for count in (60, 120):
            admin.learn("p", NAMES, "C" * 6, rows(count))
            admin.start_pulse("p")
            eventually(lambda count=count: admin.project_info("p")["params"]["fed_rows"] == str(count))
            if push:
                eventually(lambda count=count: peer.project_info("p")["params"]["fed_rows"] == str(count), 10)
                time.sleep(1.1)
        if not push:
            time.sleep(1)
            assert peer.project_info("p")["params"]["fed_rows"] == "0"
            admin.sync("p")  # asks, and that is heard
            eventually(lambda: peer.project_info("p")["params"]["fed_rows"] == "120")
