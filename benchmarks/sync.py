"""One node's sync of a wide federation: its memory, and what a sync costs when nothing has changed."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from benchmarks import nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import Times, timed
from gramian_local.nats_server import NatsServer

PEERS, ATTRIBUTES, ROWS = 4, 1000, 1100
MOST_BYTES = 400 * 10**6
MOST_S = 0.020
REPETITIONS = 50


def run() -> list[Row]:
    names = [f"x{i:04d}" for i in range(ATTRIBUTES)]
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats", config='http: "127.0.0.1:-1"') as nats,
        nodes.federation(directory, nats, PEERS + 1) as federation,
    ):
        for number, site in enumerate(federation.sites):
            note(f"sync: learn at {site.name}")
            site.client.learn(federation.pid, names, "C" * ATTRIBUTES, nodes.rows_of(number, ROWS, ATTRIBUTES))
        *peers, node = federation.sites
        for site in peers:
            site.client.sync(federation.pid)
        rows = [_first_sync(node, federation.pid)]
        federation.sync()
        return [*rows, _unchanged(node, federation.pid, nats)]


def _first_sync(node: nodes.Site, pid: str) -> Row:
    """Publishes its own and takes in all others."""
    note("sync: memory")
    before = nodes.resident_bytes(node.server.pid)
    nodes.reset_peak(node.server.pid)
    took = timed(lambda: node.client.sync(pid))
    assert node.client.sync_stats(pid)["rcvCount"] == PEERS
    peak = nodes.peak_bytes(node.server.pid)
    detail = f"resident peak of the server process; {before / 1e6:.0f} MB before; {seconds(took)}"
    what = f"first sync, p = {ATTRIBUTES:,}, {PEERS} peers published"
    return Row(what, f"{peak / 1e6:.0f} MB", f"under {MOST_BYTES / 1e6:.0f} MB", peak < MOST_BYTES, detail)


def _unchanged(node: nodes.Site, pid: str, nats: NatsServer) -> Row:
    note("sync: unchanged")
    before = _bytes_moved(nats)
    times = Times([timed(lambda: node.client.sync(pid)) for _ in range(REPETITIONS)])
    moved = (_bytes_moved(nats) - before) / REPETITIONS
    detail = f"median of {REPETITIONS}, HTTP included; {moved / 1000:.1f} kB a sync to and from NATS, a blob has 4 MB"
    met = times.median < MOST_S and moved < 100_000
    return Row(
        "sync of an unchanged federation", seconds(times.median), f"no blob moves, under {seconds(MOST_S)}", met, detail
    )


def _bytes_moved(nats: NatsServer) -> int:
    """What the server has sent to clients and got from them, from its monitoring address."""
    (ports,) = Path(nats.directory).glob("*.ports")
    url = json.loads(ports.read_text())["monitoring"][0]
    with urllib.request.urlopen(f"{url}/varz", timeout=5) as answer:
        found = json.load(answer)
    return int(found["in_bytes"]) + int(found["out_bytes"])
