"""Learning a float64 array with the numpy plugin, against the matrix product that no learner can avoid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Row, ratio
from benchmarks.suite import note
from benchmarks.timing import interleaved
from gramian import plugins
from gramian.domain.statistics.schema import Schema
from gramian.settings import Settings

ROWS = 20_000
SHARE_MISSING = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """`gaps`: columns of type C of which SHARE_MISSING of the values are missing."""

    continuous: int
    binary: int
    gaps: int
    at_least: float
    repetitions: int

    @property
    def name(self) -> str:
        columns = self.continuous + self.binary
        kinds = f"{self.continuous} C, {self.binary} B" if self.binary else "all C"
        return f"library learn, {ROWS:,} x {columns:,}, {kinds}" + (f", gaps in {self.gaps}" if self.gaps else "")


CASES = (
    Case(200, 0, 0, 0.65, 15),
    Case(140, 60, 0, 0.5, 15),
    Case(200, 0, 20, 0.35, 15),
    Case(1000, 0, 0, 0.7, 5),
)


def run() -> list[Row]:
    return [_row(case) for case in CASES]


def _row(case: Case) -> Row:
    note(case.name)
    schema = Schema.of(
        [(f"c{i:04d}", "C") for i in range(case.continuous)] + [(f"b{i:04d}", "B") for i in range(case.binary)]
    )
    full = _rows(case)
    holed = _with_gaps(full, case)
    compute = plugins.make("compute", "numpy", Settings(home=Path()))
    # NaN costs BLAS nothing, yet the bare side gets the full rows: a product of gaps would be of no use.
    ours, bare = interleaved(
        case.repetitions,
        lambda: compute.accumulate(holed, schema),
        lambda: (full.T @ full, full.sum(axis=0)),
    )
    detail = f"least of {case.repetitions}; medians {bare.median / ours.median:.2f}"
    return ratio(case.name, ours.least, bare.least, case.at_least, detail)


def _rows(case: Case) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    rows = np.empty((ROWS, case.continuous + case.binary))
    rows[:, : case.continuous] = rng.normal(3.0, 2.0, size=(ROWS, case.continuous))
    rows[:, case.continuous :] = rng.random((ROWS, case.binary)) < 0.3
    return rows


def _with_gaps(rows: NDArray[np.float64], case: Case) -> NDArray[np.float64]:
    rng = np.random.default_rng(2)
    holed = rows.copy()
    holed[:, : case.gaps][rng.random((ROWS, case.gaps)) < SHARE_MISSING] = np.nan
    return holed
