"""Snapshots of ever more attributes, taken in and published: bytes, seconds, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import crowd, nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import timed
from gramian_local.nats_server import NatsServer

PEERS = 5
ATTRIBUTES = (500, 1000, 2000, 4000)
MOST_BYTES = 1.2 * 2**30
MOST_COPIES = 2.5
FEW_BYTES = 32 * 2**20
"""Smaller snapshots take less than what is on its way at once, to disk and to NATS."""
ROOM_BYTES = 3 * 2**29
SERVER_BYTES = 2 * 2**30


def run() -> list[Row]:
    return [row for attributes in ATTRIBUTES for row in (taking_in(attributes), publishing(attributes))]


def taking_in(attributes: int) -> Row:
    """Fetch, check, keep and merge what all peers have published."""
    note(f"curve: take in, p = {attributes}")
    with gathered(PEERS + 1, attributes) as federation:
        size = max(federation.publish(number) for number in range(PEERS))
        took, before, peak = _sync(federation)
        federation.assert_merged(PEERS)
    return Row(
        f"sync that takes in {PEERS} peers, p = {attributes:,}",
        f"{seconds(took)}, {peak / 2**20:,.0f} MiB",
        f"under {MOST_BYTES / 2**20:,.0f} MiB",
        peak < MOST_BYTES,
        _detail(size, before, peak),
    )


def publishing(attributes: int) -> Row:
    """Rebase, clamp, encode and publish own statistics, and merge them."""
    note(f"curve: publish, p = {attributes}")
    with gathered(1, attributes) as federation:
        size = federation.give_rows()
        took, before, peak = _sync(federation)
        federation.assert_published()
    copies, is_judged = (peak - before) / size, size > FEW_BYTES
    return Row(
        f"sync that publishes, p = {attributes:,}",
        f"{seconds(took)}, {copies:.1f} times the snapshot",
        f"under {MOST_COPIES:g}" if is_judged else "reported",
        copies < MOST_COPIES if is_judged else None,
        _detail(size, before, peak),
    )


@contextmanager
def gathered(members: int, attributes: int) -> Iterator[crowd.Crowd]:
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats", max_memory_bytes=SERVER_BYTES) as nats,
        crowd.gathered(directory, nats, members, attributes, ROOM_BYTES) as federation,
    ):
        federation.sync()  # imports what syncs need
        yield federation


def _sync(federation: crowd.Crowd) -> tuple[float, int, int]:
    """Seconds, and the server's resident bytes before and at most."""
    server = federation.site.server.pid
    before = nodes.resident_bytes(server)
    nodes.reset_peak(server)
    return timed(federation.sync), before, nodes.peak_bytes(server)


def _detail(size: int, before: int, peak: int) -> str:
    memory = f"{peak / 2**20:,.0f} MiB at most, {before / 2**20:.0f} of them the idle server"
    return f"snapshots of {size / 1e6:.1f} MB; {memory}"
