"""How soon a resident node has merged what a peer publishes, whatever the schedule: by the nudge that goes with it."""

from __future__ import annotations

import time

from benchmarks import nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import Times
from gramian_local.nats_server import NatsServer

ATTRIBUTES, ROWS, REPETITIONS = 200, 300, 15
MOST_S = 0.200
PAUSE_S = 1.2
"""Nudges of one peer are heeded once a second."""
POLL_S = 0.002
LIMIT_S = 20.0
LISTENING_S = 3.0


def run() -> list[Row]:
    names = [f"x{i:03d}" for i in range(ATTRIBUTES)]
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats") as nats,
        nodes.federation(directory, nats, 2) as federation,
    ):
        publisher, listener = federation.sites
        for number, site in enumerate(federation.sites):
            site.client.learn(federation.pid, names, "C" * ATTRIBUTES, nodes.rows_of(number, ROWS, ATTRIBUTES))
        federation.sync()
        listener.client.start_pulse(federation.pid)
        time.sleep(LISTENING_S)
        merged, total = [], 2 * ROWS
        for number in range(REPETITIONS):
            note(f"push: {number + 1} of {REPETITIONS}")
            batch = nodes.rows_of(10 + number, ROWS, ATTRIBUTES)
            publisher.client.learn(federation.pid, names, "C" * ATTRIBUTES, batch)
            total += ROWS
            started = time.perf_counter()
            publisher.client.sync(federation.pid)
            published = time.perf_counter()
            _await_rows(listener, federation.pid, total)
            merged.append((time.perf_counter() - started, time.perf_counter() - published))
            time.sleep(PAUSE_S)
    since_start, since_end = (Times(times) for times in zip(*merged, strict=True))
    detail = (
        f"median of {REPETITIONS}, most {seconds(max(since_start.all_s))}, from the call that publishes, as polled by "
        f"HTTP; {seconds(max(0.0, since_end.median))} after that call's answer"
    )
    what = f"push: a resident peer has merged a new snapshot, p = {ATTRIBUTES}"
    return [Row(what, seconds(since_start.median), f"at most {seconds(MOST_S)}", since_start.median <= MOST_S, detail)]


def _await_rows(site: nodes.Site, pid: str, rows: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while site.client.project_info(pid)["params"]["fed_rows"] != str(rows):
        assert time.monotonic() < deadline, "the peer does not merge"
        time.sleep(POLL_S)
