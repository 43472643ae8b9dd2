"""Fits from named columns, and an exact rational reference to compare them with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from gramian.domain.models.linear import LinearModel
from gramian.domain.models.mlr import fit
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema

Columns = Mapping[str, Sequence[float] | np.ndarray]


def _moments_of(columns: Columns, binary: Sequence[str] = (), origin: np.ndarray | None = None) -> Moments:
    schema = Schema.of((name, "B" if name in binary else "C") for name in columns)
    x = np.column_stack([np.asarray(columns[name], dtype=np.float64) for name in schema.names])
    return accumulate(x, schema, origin)


def _fit_columns(
    columns: Columns, target: str, inputs: Sequence[str] | None = None, binary: Sequence[str] = ()
) -> LinearModel:
    moments = _moments_of(columns, binary)
    names = moments.schema.names
    chosen = [name for name in columns if name != target] if inputs is None else inputs
    return fit(moments, [names.index(name) for name in chosen], names.index(target))


@dataclass(frozen=True)
class ExactFit:
    """The centred minimum-norm fit in rational arithmetic."""

    slopes: list[Fraction]
    means: list[Fraction]
    target_mean: Fraction
    sse: Fraction
    rank: int

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predictions for rows x (n, p), rounded once."""
        return np.array(
            [
                float(
                    self.target_mean
                    + sum(b * (Fraction(v) - m) for b, v, m in zip(self.slopes, row, self.means, strict=True))
                )
                for row in x.tolist()
            ]
        )


def _exact_fit(x: np.ndarray, y: np.ndarray) -> ExactFit:
    n, p = x.shape
    rows = [list(map(Fraction, row)) for row in np.column_stack([x, y]).tolist()]
    means = [sum(column, Fraction()) / n for column in zip(*rows, strict=True)]
    columns = [[value - mean for value in column] for column, mean in zip(zip(*rows, strict=True), means, strict=True)]
    C = [[sum((a * b for a, b in zip(u, v, strict=True)), Fraction()) for v in columns] for u in columns]
    basic, null = _solve([row[:] for row in C[:p]])
    slopes = _least_norm(basic, null)
    sse = C[p][p] - sum((b * row[p] for b, row in zip(slopes, C, strict=False)), Fraction())
    return ExactFit(slopes, means[:p], means[p], sse, p - len(null))


def _solve(A: list[list[Fraction]]) -> tuple[list[Fraction], list[list[Fraction]]]:
    """A solution of the consistent augmented system A (p rows, at least p + 1 columns), and a null basis."""
    p, pivots = len(A), []
    for column in range(p):
        row = next((i for i in range(len(pivots), p) if A[i][column]), None)
        if row is None:
            continue
        k = len(pivots)
        A[k], A[row] = A[row], A[k]
        A[k] = [value / A[k][column] for value in A[k]]
        for i in range(p):
            if i != k and A[i][column]:
                factor = A[i][column]
                A[i] = [value - factor * pivot for value, pivot in zip(A[i], A[k], strict=True)]
        pivots.append(column)
    solution = [Fraction()] * p
    for k, column in enumerate(pivots):
        solution[column] = A[k][p]
    null = []
    for free in sorted(set(range(p)) - set(pivots)):
        vector = [Fraction()] * p
        vector[free] = Fraction(1)
        for k, column in enumerate(pivots):
            vector[column] = -A[k][free]
        null.append(vector)
    return solution, null


def _least_norm(basic: list[Fraction], null: list[list[Fraction]]) -> list[Fraction]:
    def dot(u: list[Fraction], v: list[Fraction]) -> Fraction:
        return sum((a * b for a, b in zip(u, v, strict=True)), Fraction())

    weights, _ = _solve([[*(dot(u, v) for v in null), dot(u, basic)] for u in null])
    moved = basic[:]
    for weight, vector in zip(weights, null, strict=True):
        moved = [value - weight * step for value, step in zip(moved, vector, strict=True)]
    return moved


@pytest.fixture(scope="session")
def moments_of() -> Callable[..., Moments]:
    """(columns by name, names of binary ones, origin or the rule's) -> Moments."""
    return _moments_of


@pytest.fixture(scope="session")
def fit_columns() -> Callable[..., LinearModel]:
    """(columns by name, target, inputs or all others, names of binary ones) -> LinearModel."""
    return _fit_columns


@pytest.fixture(scope="session")
def exact_fit() -> Callable[..., ExactFit]:
    """(x (n, p), y (n,)) -> ExactFit."""
    return _exact_fit
