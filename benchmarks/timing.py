"""Timing calls side by side, so that a machine's slow minutes hit all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of each repetition."""

    all_s: Sequence[float]

    @property
    def least(self) -> float:
        return min(self.all_s)

    @property
    def median(self) -> float:
        return statistics.median(self.all_s)


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(repetitions: int, *calls: Callable[[], Any]) -> list[Times]:
    """Time each call once per repetition, in turn, after one untimed turn. One Times per call."""
    for call in calls:
        call()
    found = [[timed(call) for call in calls] for _ in range(repetitions)]
    return [Times(times) for times in zip(*found, strict=True)]
