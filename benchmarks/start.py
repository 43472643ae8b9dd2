"""From nothing to a federation, and what a server holds in memory while nobody calls."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks import nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import Times, timed
from gramian_local.nats_server import NatsServer

REPETITIONS = 5
MOST_S = 2.0
MOST_BYTES = 80 * 2**20
SETTLE_S = 3.0


def run() -> list[Row]:
    times = []
    for number in range(REPETITIONS):
        note(f"start: from nothing, {number + 1} of {REPETITIONS}")
        times.append(_ready_s())
    middle = Times(times).median
    what = "federation ready from nothing: nats-server and 2 nodes started, users made, created, joined"
    detail = f"median of {REPETITIONS}, most {seconds(max(times))}"
    return [Row(what, seconds(middle), f"at most {seconds(MOST_S)}", middle <= MOST_S, detail), *_idle()]


def _ready_s() -> float:
    with nodes.scratch() as directory, ExitStack() as stack:

        def serving(name: str) -> nodes.Site:
            return stack.enter_context(nodes.serving(directory / name, name))

        def make() -> None:
            with ThreadPoolExecutor(3) as pool:
                nats = pool.submit(NatsServer.start, directory / "nats")
                sites = list(pool.map(serving, ("org0", "org1")))
                nodes.found(sites, stack.enter_context(nats.result()).url)

        return timed(make)


def _idle() -> list[Row]:
    note("start: idle memory")
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats") as nats,
        nodes.federation(directory, nats, 2) as federation,
    ):
        for site in federation.sites:
            site.client.start_pulse(federation.pid)
        time.sleep(SETTLE_S)
        waiting = nodes.resident_bytes(federation.sites[0].server.pid)
        for number, site in enumerate(federation.sites):
            site.client.learn(federation.pid, ["x", "y", "z"], "CCC", nodes.rows_of(number, 50, 3))
        federation.sync()
        time.sleep(SETTLE_S)
        worked = nodes.resident_bytes(federation.sites[0].server.pid)
    return [
        _memory_row("idle resident memory of a node in a pulsing federation, before its first rows", waiting),
        _memory_row("the same after a learn, a sync and a merge", worked),
    ]


def _memory_row(what: str, size: int) -> Row:
    return Row(what, f"{size / 2**20:.0f} MiB", f"at most {MOST_BYTES / 2**20:.0f} MiB", size <= MOST_BYTES)
