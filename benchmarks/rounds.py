"""A whole federated round over real server processes, against the bare arithmetic of the same round in one process."""

from __future__ import annotations

import os
from dataclasses import dataclass

from benchmarks import nodes
from benchmarks.arithmetic import Round
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import timed
from gramian.domain.statistics.schema import Schema
from gramian_local.nats_server import NatsServer

MORE_ROWS = 100
"""Rows of a learn beyond its attributes."""


@dataclass(frozen=True, slots=True)
class Size:
    """`orientation_s`: what was hoped for before anything was measured."""

    nodes: int
    attributes: int
    orientation_s: float
    repetitions: int

    @property
    def names(self) -> list[str]:
        return [f"x{i:04d}" for i in range(self.attributes)]

    @property
    def schema(self) -> Schema:
        return Schema.of([(name, "C") for name in self.names])


SIZES = (Size(2, 20, 0.15, 9), Size(5, 200, 0.4, 5), Size(10, 1000, 2.5, 2))


def run() -> list[Row]:
    return [_row(size) for size in SIZES]


def _row(size: Size) -> Row:
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats") as nats,
        nodes.federation(directory, nats, size.nodes) as federation,
    ):
        whole, bare = zip(*(_pair(federation, size, number) for number in range(size.repetitions)), strict=True)
    took, arithmetic = min(whole), min(bare)
    detail = (
        f"the arithmetic of all nodes in one process: {seconds(arithmetic)}, {took / arithmetic:.2f} times that on "
        f"{os.cpu_count()} cores; least of {size.repetitions}"
    )
    what = f"whole round, K = {size.nodes}, p = {size.attributes:,}"
    return Row(what, seconds(took), f"reported (orientation: {size.orientation_s:g} s)", None, detail)


def _pair(federation: nodes.Federation, size: Size, number: int) -> tuple[float, float]:
    """Seconds from the last acknowledged learn until every node has built its model, and of the bare arithmetic."""
    note(f"rounds: K = {size.nodes}, p = {size.attributes}, round {number}")
    count = size.attributes + MORE_ROWS
    rows = [
        [nodes.rows_of(1000 * (number + later) + place, count, size.attributes) for later in (0, 1)]
        for place in range(size.nodes)
    ]
    for site, (_, now) in zip(federation.sites, rows, strict=True):
        site.client.learn(federation.pid, size.names, "C" * size.attributes, now)
    took = timed(lambda: _sync_and_build(federation, size))
    federation.assert_converged(rows=size.nodes * count * (number + 1))
    return took, timed(Round(size.schema, [(before, now) for before, now in rows]).run)


def _sync_and_build(federation: nodes.Federation, size: Size) -> None:
    federation.sync()
    federation.everyone(lambda site: site.client.build(federation.pid, "model", target=size.names[-1]))
