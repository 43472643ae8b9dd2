"""As `curve`, for snapshots of a quarter of a gigabyte."""

from __future__ import annotations

from benchmarks import curve
from benchmarks.results import Row

ATTRIBUTES = 8000


def run() -> list[Row]:
    return [curve.taking_in(ATTRIBUTES), curve.publishing(ATTRIBUTES)]
