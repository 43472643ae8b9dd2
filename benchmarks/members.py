"""One member of many has published: what the pulse of another takes, for federations of any size."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks import crowd, nodes
from benchmarks.results import Row, seconds
from benchmarks.suite import note
from benchmarks.timing import Times, timed
from gramian_local.nats_server import NatsServer

MEMBERS = (2, 10, 30, 100)
ATTRIBUTES = (20, 200, 1000)
FEW, MANY, JUDGED, MOST = 10, 100, 200, 2.0
REPETITIONS = 9
ROOM_BYTES = 2**29
SERVER_BYTES = 3 * 2**30


def run() -> list[Row]:
    return [_row(attributes) for attributes in ATTRIBUTES]


def _row(attributes: int) -> Row:
    times = dict(zip(MEMBERS, _times(attributes), strict=True))
    share = times[MANY].median / times[FEW].median
    shown = ", ".join(f"{count}: {seconds(times[count].median)}" for count in MEMBERS)
    is_judged = attributes == JUDGED
    return Row(
        f"sync after one of K members published, p = {attributes:,}",
        f"K = {shown}",
        f"{MANY} at most {MOST:g} times {FEW}" if is_judged else "reported",
        share <= MOST if is_judged else None,
        f"{MANY} takes {share:.2f} times {FEW}; one blob fetched each; medians of {REPETITIONS}, HTTP included",
    )


def _times(attributes: int) -> list[Times]:
    """Of federations side by side, one of each size."""
    with (
        nodes.scratch() as directory,
        NatsServer.start(directory / "nats", max_memory_bytes=SERVER_BYTES) as nats,
        ExitStack() as stack,
    ):
        federations = [
            stack.enter_context(crowd.gathered(directory / str(count), nats, count, attributes, ROOM_BYTES))
            for count in MEMBERS
        ]
        for federation in federations:
            note(f"members: p = {attributes}, K = {len(federation.peers) + 1}")
            for number in range(len(federation.peers)):
                federation.publish(number)
            federation.sync()
        turns = [[_turn(federation, number) for federation in federations] for number in range(REPETITIONS + 1)]
        return [Times(found) for found in zip(*turns[1:], strict=True)]


def _turn(federation: crowd.Crowd, number: int) -> float:
    """Seconds of a sync after one member, another one each time, has published anew."""
    peers = len(federation.peers)
    federation.publish(number * 7 % peers)
    took = timed(federation.sync)
    federation.assert_merged(peers + number + 1)
    return took
