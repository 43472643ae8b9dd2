"""Whole nodes: over HTTP and a real NATS, in this process where nothing has to be killed."""

from __future__ import annotations

import csv
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.client import Client
from gramian.http.app import full_app
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases import users
from gramian.usecases.federation import pulse
from gramian_local import wsgi
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened

SMALL = {"nats_stream_max_memory": 16 * 2**20}
"""The server reserves what a federation may use: the default of 1 GiB would soon fill the tests' machine."""
DATA = Path(__file__).parents[2].parent / "shared" / "data"


@dataclass(frozen=True)
class Site:
    """One organisation: its node, and a client of its user."""

    name: str
    node: Node
    url: str
    client: Client


@contextmanager
def running(home: Path, name: str) -> Iterator[Site]:
    with opened(Settings(), home) as (node, _):
        key = users.create(node, name)
        server = wsgi.Server(full_app(node), "127.0.0.1", 0, body_limit_bytes=2**26)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        node.scheduler.start(lambda cid, pid: pulse.scheduled(node, cid, pid))
        try:
            yield Site(name, node, url, Client(url, name, key))
        finally:
            node.scheduler.stop()
            server.stop()
            thread.join(10)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites that end with the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(running(tmp_path / name, name))


@dataclass
class Federation:
    """Sites that share one project; the first is the admin."""

    pid: str
    nats_url: str
    sites: list[Site]

    @property
    def admin(self) -> Site:
        return self.sites[0]

    def join(self, peer: Site, **own: Any) -> None:
        password = secrets.token_hex(8)
        invitation = self.admin.client.invite(self.pid, password, self.admin.url)
        peer.client.join(self.pid, invitation, **own)
        self.sites.append(peer)

    def sync(self, rounds: int = 2) -> None:
        """Two rounds over all nodes converge."""
        for _ in range(rounds):
            for each in self.sites:
                each.client.sync(self.pid)

    def params(self, key: str) -> list[str]:
        return [each.client.project_info(self.pid)["params"][key] for each in self.sites]

    def learn(self, names: Sequence[str], types: Sequence[str], parts: Sequence[np.ndarray]) -> None:
        for each, rows in zip(self.sites, parts, strict=True):
            each.client.learn(self.pid, names, types, rows)

    def assert_converged(self, rows: int) -> None:
        """Everyone has merged the same inputs to the same bits."""
        assert set(self.params("fed_rows")) == {str(rows)}
        assert len(set(self.params("fed_inputs"))) == 1
        digests = set(self.params("fed_digest"))
        assert len(digests) == 1
        assert digests != {""}


@pytest.fixture
def federate(site: Callable[..., Site], nats_server: NatsServer) -> Callable[..., Federation]:
    """Founds a federation of so many sites; keywords are keys of the create map."""

    def make(count: int = 3, pid: str = "study", **keys: Any) -> Federation:
        sites = [site(f"org{number}") for number in range(count)]
        wanted = {"fed_name": "study", "sync_sched": "m30", "nats_hosts": nats_server.url, **SMALL, **keys}
        sites[0].client.create_federation(pid, **wanted)
        federation = Federation(pid, nats_server.url, sites[:1])
        for peer in sites[1:]:
            federation.join(peer)
        return federation

    return make


@pytest.fixture
def shared_data() -> Callable[..., tuple[list[str], np.ndarray]]:
    """Reads a CSV of the shared data sets: names and rows."""

    def read(name: str) -> tuple[list[str], np.ndarray]:
        path = DATA / name
        if not path.exists():
            pytest.skip(f"the shared data set {name} is not on this machine")
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file))
        return header, np.array(rows, dtype=float)

    return read


@pytest.fixture
def pooled() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Predictions for `inputs` by centred least squares on `rows` (target last), in extended precision."""

    def predict(rows: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        wide = rows.astype(np.longdouble)
        centre = wide.mean(axis=0)
        design, target = (wide - centre)[:, :-1], (wide - centre)[:, -1]
        slopes = solve(design.T @ design, design.T @ target)
        return ((inputs.astype(np.longdouble) - centre[:-1]) @ slopes + centre[-1]).astype(float)

    return predict


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Gauss-Jordan with pivoting, in whatever precision comes in."""
    a = np.column_stack([matrix, right])
    for k in range(len(a)):
        pivot = k + int(np.abs(a[k:, k]).argmax())
        a[[k, pivot]] = a[[pivot, k]]
        a[k] /= a[k, k]
        rest = np.arange(len(a)) != k
        a[rest] -= a[rest, k, None] * a[k]
    return a[:, -1]
