"""Taking in and merging five peers' snapshots at up to 8,000 attributes: bytes, seconds, memory."""

from __future__ import annotations

from benchmarks import crowd, nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import timed
from gramian_local.nats_server import NatsServer

PEERS = 5
ATTRIBUTES = (500, 1000, 2000, 4000, 8000)
MOST_BYTES = 1.2 * 2**30
ROOM_BYTES = 3 * 2**29
SERVER_BYTES = 2 * 2**30


def run() -> list[Row]:
    return [_row(attributes) for attributes in ATTRIBUTES]


def _row(attributes: int) -> Row:
    note(f"curve: p = {attributes}")
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats", max_memory_bytes=SERVER_BYTES) as nats,
        crowd.gathered(directory, nats, PEERS + 1, attributes, ROOM_BYTES) as federation,
    ):
        size = max(federation.publish(number) for number in range(PEERS))
        before = nodes.resident_bytes(federation.pid_of_server)
        nodes.reset_peak(federation.pid_of_server)
        took = timed(federation.sync)
        peak = nodes.peak_bytes(federation.pid_of_server)
        federation.assert_merged(PEERS)
    is_last = attributes == ATTRIBUTES[-1]
    return Row(
        f"first sync of a node with {PEERS} peers, p = {attributes:,}",
        f"{seconds(took)}, {peak / 2**20:,.0f} MiB at most",
        f"under {MOST_BYTES / 2**20:,.0f} MiB" if is_last else "reported",
        peak < MOST_BYTES if is_last else None,
        f"snapshots of {size / 1e6:.1f} MB; {(peak - before) / size:.1f} times one above the {before / 2**20:.0f} MiB "
        "of the idle server",
    )
