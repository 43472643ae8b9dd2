"""A federation on a cluster of three servers that keep three copies of everything, while servers come and go."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nats.errors
import pytest

from gramian.client import ClientError
from gramian_local import nats_server
from gramian_local.nats_server import NatsServer, probe

# A cluster needs seconds to come up, and to notice what it lost.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RawRequest = Callable[..., dict[str, Any]]
PATIENCE_S = 60.0


@dataclass
class Cluster:
    """Three servers on loopback, each with routes to all."""

    servers: list[NatsServer]
    raw_request: RawRequest

    @property
    def hosts(self) -> str:
        return ",".join(server.url for server in self.servers)

    def leader(self, stream: str) -> NatsServer:
        """The server that leads a stream."""
        return self.servers[int(self._settled(stream)["leader"].removeprefix("s"))]

    def make_leader(self, stream: str, name: str) -> None:
        """Have the leader of a stream hand over to the server of that name."""
        wish = json.dumps({"placement": {"preferred": name}}).encode()
        deadline = time.monotonic() + PATIENCE_S
        while self._settled(stream)["leader"] != name:
            assert time.monotonic() < deadline, f"{name} does not become the leader of {stream}"
            with suppress(nats.errors.Error, OSError):
                self.raw_request(self.servers[0].url, f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", wish)
            time.sleep(0.5)

    def await_copies(self, fed_id: str) -> None:
        """Until every server has caught up.

        Whoever takes the next server down before that leaves the memory stream without a leader until it is back: a
        copy that has just lost its memory does not count for a majority.
        """
        for letter in "HB":
            self._settled(f"GRM_{fed_id}_{letter}", copies=2)

    def _settled(self, stream: str, copies: int = 0) -> dict[str, Any]:
        """What a stream says of its cluster, once it has a leader and so many other copies that are current."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with suppress(nats.errors.Error, OSError):
                answer = self.raw_request(self.servers[0].url, f"$JS.API.STREAM.INFO.{stream}", b"")
                cluster = answer.get("cluster") or {}
                current = [each for each in cluster.get("replicas", []) if each["current"] and not each.get("offline")]
                if cluster.get("leader") and len(current) >= copies:
                    return cluster
            time.sleep(0.2)
        raise AssertionError(f"{stream} does not settle")

    def lose_disks(self) -> None:
        """All stop, and begin anew with nothing."""
        for server in self.servers:
            server.kill()
        for server in self.servers:
            shutil.rmtree(server.directory / "jetstream")
        for server in self.servers:
            server.restart()


@pytest.fixture
def cluster(start_cluster: Callable[[], list[NatsServer]], raw_request: RawRequest) -> Cluster:
    made = Cluster(start_cluster(), raw_request)
    await_meta_leader(made)
    return made


class Remote(NatsServer):
    """A server in a network of its own, behind an interface that can be unplugged."""

    __slots__ = ()
    address: ClassVar[str]

    @property
    def url(self) -> str:
        return f"nats://{self.address}:{self.port}"

    def _await_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.port = self._announced_port() or 0
            if self.port and probe(self.address, self.port) is not None:
                return
            time.sleep(0.05)
        raise AssertionError(f"the server is not ready: {self._last_words()}")


@dataclass(frozen=True)
class Cable:
    """Between this machine's network, where it ends at `near`, and a namespace, where it ends at `far`."""

    namespace: str
    near: str
    far: str

    def plug(self, state: str) -> None:
        """`up` or `down`; nobody is told."""
        ip("link", "set", f"{self.namespace}n", state)


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10)
    if done.returncode:
        pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()}")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Skips where the tests may not make network namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    name, net = f"grm{secrets.token_hex(3)}", f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}"
    made = Cable(name, f"{net}.1", f"{net}.2")
    try:
        ip("netns", "add", name)
        ip("link", "add", f"{name}n", "type", "veth", "peer", "name", f"{name}f")
        ip("link", "set", f"{name}f", "netns", name)
        ip("addr", "add", f"{made.near}/30", "dev", f"{name}n")
        ip("link", "set", f"{name}n", "up")
        ip("-n", name, "addr", "add", f"{made.far}/30", "dev", f"{name}f")
        for device in ("lo", f"{name}f"):
            ip("-n", name, "link", "set", device, "up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=10)


@pytest.fixture
def stretched(
    cable: Cable,
    start_server: Callable[..., NatsServer],
    free_port: Callable[[], int],
    raw_request: RawRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    """A cluster whose first server, the one that nodes try first, is at the far end of the cable."""
    ports = [free_port() for _ in range(3)]
    hosts = [cable.far, cable.near, cable.near]
    routes = ", ".join(f'"nats://{host}:{port}"' for host, port in zip(hosts, ports, strict=True))

    def config(number: int, host: str) -> str:
        # As docs/nats.md advises: servers ask each other for messages, and one that falls silent is asked for minutes.
        pings = "ping_interval: 1s, ping_max: 2"
        cluster = f'cluster {{ name: grm, listen: "{host}:{ports[number]}", routes: [{routes}], {pings} }}'
        return f"server_name: s{number}\n{cluster}"

    far = start_far(cable, tmp_path, monkeypatch, f"host: {cable.far}\n{config(0, cable.far)}")
    try:
        near = [start_server(config=config(number, cable.near), max_memory_bytes=2**28) for number in (1, 2)]
        made = Cluster([far, *near], raw_request)
        await_meta_leader(made)
        yield made
    finally:
        far.stop()


def start_far(cable: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> Remote:
    executable = tmp_path / "nats-server"
    executable.write_text(f'#!/bin/sh\nexec ip netns exec {cable.namespace} {nats_server._found_executable()} "$@"\n')
    executable.chmod(0o755)
    monkeypatch.setattr(Remote, "address", cable.far, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(nats_server, "_found_executable", lambda: str(executable))
        return Remote.start(tmp_path / "far", config=config, max_memory_bytes=2**28)


def await_meta_leader(cluster: Cluster) -> None:
    """Until streams can be made."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(nats.errors.Error, OSError):
            if "error" not in cluster.raw_request(cluster.servers[0].url, "$JS.API.INFO", b""):
                return
        time.sleep(0.1)
    raise AssertionError("the cluster does not come up")


class Study:
    """A federation of three sites on the cluster; each of its `learn`s adds rows somewhere."""

    def __init__(
        self, cluster: Cluster, sites: list[Any], assert_converged: Callable[..., None], timeout_s: int = 5
    ) -> None:
        self.sites, self.rows, self._check = sites, 0, assert_converged
        admin, *others = sites
        admin.create(nats_hosts=cluster.hosts, nats_stream_replicas=3, nats_req_timeout=timeout_s)
        for peer in others:
            peer.client.join("study", admin.invite())
        for each in sites:
            self.learn(each, 20)
        self.fed_id = admin.client.federation_info("study")["fed_id"]

    def learn(self, site: Any, rows: int) -> None:
        site.learn(rows)
        self.rows += rows

    def converge(self) -> None:
        """Syncing again and again must get there, whatever fails meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for each in self.sites:
                with suppress(ClientError):
                    each.client.sync("study")
            try:
                self._check(self.sites, self.rows)
            except AssertionError:
                if time.monotonic() > deadline:
                    for each in self.sites:
                        print(each.name, each.params(), *each.client.error_log("study"), sep="\n  ")
                    raise
                time.sleep(0.2)
            else:
                return


def test_cluster_whose_leader_is_cut_off_converges_and_takes_it_back(
    stretched: Cluster, cable: Cable, site: Callable[[str], Any], assert_converged: Callable[..., None]
) -> None:
    """No connection ends, packets just stop: nodes go on with the other two servers, and what the lonely leader
    believes does not come back with it."""
    study = Study(stretched, [site(name) for name in ("one", "two", "three")], assert_converged, timeout_s=2)
    study.converge()
    for letter in "HB":
        stretched.make_leader(f"GRM_{study.fed_id}_{letter}", "s0")
    cable.plug("down")
    study.learn(study.sites[0], 30)
    study.converge()
    cable.plug("up")
    stretched.await_copies(study.fed_id)
    study.learn(study.sites[1], 40)
    study.converge()


@pytest.fixture
def study(cluster: Cluster, site: Callable[[str], Any], assert_converged: Callable[..., None]) -> Study:
    made = Study(cluster, [site(name) for name in ("one", "two", "three")], assert_converged)
    made.converge()
    return made


def test_cluster_keeps_the_copies_asked_for_and_survives_its_leader(cluster: Cluster, study: Study) -> None:
    """Both streams have three copies; the loss of the server that leads the heads stops nobody."""
    for letter in "HB":
        answer = cluster.raw_request(cluster.servers[0].url, f"$JS.API.STREAM.INFO.GRM_{study.fed_id}_{letter}", b"")
        assert answer["config"]["num_replicas"] == 3
    cluster.leader(f"GRM_{study.fed_id}_H").kill()
    study.learn(study.sites[0], 30)
    study.converge()


def test_cluster_without_any_one_server_converges(cluster: Cluster, study: Study) -> None:
    """Each in turn is killed while rows come in, and again all is well once it is back."""
    for server, each in zip(cluster.servers, study.sites, strict=True):
        server.kill()
        study.learn(each, 30)
        study.converge()
        server.restart()
        study.learn(each, 35)
        study.converge()
        cluster.await_copies(study.fed_id)


def test_cluster_without_a_majority_waits_and_recovers(cluster: Cluster, study: Study) -> None:
    """Two of three lost: nothing can be written and nobody loses anything; back, all goes on, lost memory included."""
    for server in cluster.servers[:2]:
        server.kill()
    study.learn(study.sites[0], 30)
    for each in study.sites:
        with suppress(ClientError):
            each.client.sync("study")
    assert {each.params()["fed_rows"] for each in study.sites} == {"60"}
    for server in cluster.servers[:2]:
        server.restart()
    study.converge()


def test_cluster_restarted_one_by_one_under_load_converges(cluster: Cluster, study: Study) -> None:
    """Nodes go on learning and syncing all the while."""
    over = threading.Event()
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while not over.is_set():
                for each in study.sites:
                    study.learn(each, 20)
                    with suppress(ClientError):
                        each.client.sync("study")
        except BaseException as error:
            faults.append(error)
            raise

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for server in cluster.servers:
            server.restart()
            cluster.await_copies(study.fed_id)
    finally:
        over.set()
        worker.join(PATIENCE_S)
    assert faults == []
    study.converge()


def test_cluster_that_lost_all_disks_is_filled_anew_by_the_nodes(cluster: Cluster, study: Study) -> None:
    """Streams with their copies, roster, heads and blobs; nobody learned anything new."""
    before = study.sites[0].params()["fed_digest"]
    cluster.lose_disks()
    study.converge()
    assert study.sites[0].params()["fed_digest"] == before
    for letter in "HB":
        info = cluster.raw_request(
            cluster.servers[0].url, f"$JS.API.STREAM.INFO.GRM_{study.fed_id}_{letter}", json.dumps({}).encode()
        )
        assert info["config"]["num_replicas"] == 3
        assert info["state"]["messages"] == {"H": 4, "B": 3}[letter]
    study.learn(study.sites[1], 30)
    study.converge()
