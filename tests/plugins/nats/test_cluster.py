"""A federation on a cluster of three servers that keep three copies of everything, while servers come and go."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import nats.errors
import pytest

from gramian.client import ClientError
from gramian_local.nats_server import NatsServer

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

    def __init__(self, cluster: Cluster, sites: list[Any], assert_converged: Callable[..., None]) -> None:
        self.sites, self.rows, self._check = sites, 0, assert_converged
        admin, *others = sites
        admin.create(nats_hosts=cluster.hosts, nats_stream_replicas=3, nats_req_timeout=5)
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
