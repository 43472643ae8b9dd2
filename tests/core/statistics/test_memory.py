"""What statistics of many attributes take, in shares of a snapshot: they are the largest things that a node holds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gramian.domain.statistics import merge, packed, snapshot
from gramian.domain.statistics.checks import verify
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.snapshot import decode, encode, scan
from gramian.domain.statistics.trie import evaluate, fold, plan

ATTRIBUTES = 1600
"""More than go into one block of a factor."""


@pytest.fixture(scope="module")
def wide() -> Moments:
    schema = Schema.of([(f"x{i:04d}", "C") for i in range(ATTRIBUTES)])
    return accumulate(np.random.default_rng(0).normal(3.0, 2.0, (ATTRIBUTES + 50, ATTRIBUTES)), schema)


@pytest.fixture(scope="module")
def data(wide: Moments) -> bytes:
    return bytes(encode(clamp(merge.rebase(wide, standard_origin(wide)))))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small to these statistics as the real ones are to 8,000 attributes."""
    monkeypatch.setattr(packed, "BLOCK_ENTRIES", 2**13)
    monkeypatch.setattr(snapshot, "BLOCK_BYTES", 2**16)


def most(work: Callable[[], object]) -> float:
    """What `work` has at most, its result included, in sizes of a snapshot."""
    tracemalloc.start()
    try:
        result = work()
        peak = tracemalloc.get_traced_memory()[1] / (8 * packed.length(ATTRIBUTES))
        del result
    finally:
        tracemalloc.stop()
    return peak


def test_reading_checking_and_naming_takes_the_room_of_one_factor(data: bytes) -> None:
    """Arrays are views; the factor is as large as P, packed, and a block or two."""
    assert most(lambda: decode(data)) < 0.1
    m = decode(data)
    assert most(lambda: content_digest(m)) < 0.1
    assert most(lambda: verify(m)) < 1.5


def test_publishing_holds_two_at_a_time(wide: Moments) -> None:
    """The statistics, and the factor, the clamped ones or the bytes."""
    moved = merge.rebase(wide, standard_origin(wide) + 1.0)
    assert most(lambda: clamp(moved)) < 1.5
    assert most(lambda: encode(moved)) < 1.1


def test_merging_takes_the_room_of_its_result_whatever_the_number(data: bytes) -> None:
    """Stored snapshots are read in blocks, through all levels at once, with the bits of a merge in memory."""
    m = decode(data)
    moved = {f"{k:x}0": merge.rebase(m, m.origin + k) for k in range(8)}
    peers = {id_: bytes(encode(replace(each, local=None))) for id_, each in moved.items()}
    root = plan({id_: content_digest(each) for id_, each in moved.items()})

    def merged() -> bytearray:
        return encode(evaluate(root, lambda id_: scan(lambda start, size: peers[id_][start : start + size])[0]))

    assert most(merged) < 1.3
    assert content_digest(decode(merged())) == content_digest(fold(moved))


def test_decoded_statistics_that_were_moved_let_go_of_the_bytes(data: bytes) -> None:
    """No array of theirs is a view of what they came from, not even an empty one."""
    m = decode(data)
    moved = merge.rebase(m, m.origin + 1.0)
    for name in SUMS:
        owner = getattr(moved, name)
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        assert owner.base is None
