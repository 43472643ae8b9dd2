"""Fifty nodes and one server that goes away and comes back: all of them at once, and none needs help."""

from __future__ import annotations

import json
import os
import random
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gramian.client.rows import dataframe
from gramian.domain import frame as frames
from gramian.errors import GramianError
from gramian.node import Node
from gramian.settings import Settings
from gramian.usecases.federation import invite, join, membership, merging, pulse
from gramian.usecases.federation.membership import Member
from gramian.usecases.projects import lifecycle, rows
from gramian_local.nats_server import NatsServer
from gramian_local.node import opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NODES = 50
ROWS = 20
PATIENCE_S = 180.0
MOST_GROWTH_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Peer:
    """One of the fifty."""

    name: str
    node: Node

    @property
    def member(self) -> Member:
        return membership.of(self.node, lifecycle.find(self.node, self.name, "study"))

    def learn(self, seed: int) -> None:
        batch = np.random.default_rng(seed).normal(seed, 1, size=(ROWS, 3))
        text = json.dumps(dataframe(["a", "b", "c"], "CCC", batch))
        rows.learn(self.node, self.member.project, frames.decode(text.encode()))

    def pulse(self) -> None:
        pulse.run(self.node, self.name, "study")

    def federated(self) -> tuple[str, str, int]:
        stored = merging.current(self.node, self.member.project.partition)
        return ("", "", 0) if stored is None else (stored.record.inputs, stored.record.digest, stored.record.rows)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """In memory where that is possible: fifty nodes on one disk would measure the disk."""
    shared_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared_memory if os.access(shared_memory, os.W_OK) else tmp_path) as name:
        yield Path(name)


@pytest.fixture
def server(start_server: Callable[..., NatsServer]) -> NatsServer:
    return start_server(config='http: "127.0.0.1:-1"')


@pytest.fixture
def members(directory: Path, server: NatsServer, site: Callable[[str], Any]) -> Iterator[list[Peer]]:
    """The first founded the federation; all have rows and have merged those of all."""
    admin = site("n0")
    admin.create(nats_hosts=server.url, nats_stream_max_memory=32 * 2**20, nats_req_timeout=10)
    with ExitStack() as stack:
        made = [Peer("n0", admin.node)]
        for number in range(1, NODES):
            node, _ = stack.enter_context(opened(Settings(), directory / f"n{number}"))
            invitation = invite.invite(admin.node, "n0", "study", {}, default_host=admin.url)
            join.join(node, f"n{number}", "study", invitation.to_map(), persist=True)
            made.append(Peer(f"n{number}", node))
        for seed, each in enumerate(made):
            each.learn(seed)
        pulsed(made, until=NODES * ROWS)
        yield made


def pulsed(members: list[Peer], until: int, meanwhile: Callable[[], None] = lambda: None) -> None:
    """All pulse, over and over, until every one has merged so many rows to the same bits."""
    over = threading.Event()

    def work(each: Peer) -> None:
        while not over.is_set():
            try:
                each.pulse()
            except GramianError:  # the server is away, or another try changed the same
                over.wait(random.uniform(0.1, 1.0))
            if each.federated()[2] == until:
                over.wait(random.uniform(0.5, 1.0))

    with ThreadPoolExecutor(len(members)) as pool:
        workers = [pool.submit(work, each) for each in members]
        try:
            meanwhile()
            deadline = time.monotonic() + PATIENCE_S
            while {each.federated()[2] for each in members} != {until}:
                assert time.monotonic() < deadline, f"not there yet: {sorted(each.federated()[2] for each in members)}"
                time.sleep(0.2)
        finally:
            over.set()
        for worker in workers:
            worker.result()
    assert len({each.federated()[:2] for each in members}) == 1


def memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def connections(server: NatsServer) -> int:
    """What the server counts."""
    (ports,) = Path(server.directory).glob("*.ports")
    url = json.loads(ports.read_text())["monitoring"][0]
    with urllib.request.urlopen(f"{url}/varz", timeout=5) as answer:
        return int(json.load(answer)["connections"])


def test_fifty_nodes_converge_after_the_server_was_away(members: list[Peer], server: NatsServer) -> None:
    """Some learned while it was: all hear again, all pulse at once, none takes more than two connections, and this
    process no more memory for it."""
    heard = [threading.Event() for _ in members]
    fed_id = members[0].member.fed_id
    links = [membership.connect(each.node, each.member) for each in members]
    for each, link, event in zip(members, links, heard, strict=True):
        link.listen(fed_id, each.member.peer_id, lambda _, event=event: event.set())
    server.kill()
    for number, each in enumerate(members[::5]):
        each.learn(NODES + number)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    pulsed(members, until=(NODES + NODES // 5) * ROWS, meanwhile=server.restart)
    assert memory("VmHWM") - before < MOST_GROWTH_BYTES
    deadline = time.monotonic() + PATIENCE_S
    while not all(event.is_set() for event in heard):
        assert time.monotonic() < deadline, "some do not hear again"
        links[0].nudge(fed_id, b"news")
        time.sleep(0.2)
    assert connections(server) <= 2 * NODES + 2
    for link in links:
        link.close()
