"""Rows made to hurt, and the statistics of rows in exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import pair_counts, pair_sums
from gramian.domain.statistics.gaps import mask_squares, positions
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema

Column = Callable[[np.random.Generator, int], Array]

CONTINUOUS: dict[str, Column] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "far": lambda rng, n: rng.normal(1e9, 1, n),
    "small": lambda rng, n: rng.normal(3e-6, 1e-6, n),
    "large": lambda rng, n: rng.normal(-1e9, 1e9, n),
    "constant": lambda rng, n: np.full(n, 0.1),
    "far constant": lambda rng, n: np.full(n, 1e9 + 0.1),
    "zero": lambda rng, n: np.zeros(n),
    "two values": lambda rng, n: np.where(rng.random(n) < 0.4, 0.1, 1e5 + 0.3),
    "whole": lambda rng, n: rng.integers(-3, 4, n).astype(float),
    "heavy tail": lambda rng, n: rng.standard_cauchy(n),
    "outlier": lambda rng, n: np.where(np.arange(n) == n // 2, 1e12, rng.normal(0, 1, n)),
    "tiny": lambda rng, n: rng.normal(0, 1e-160, n),
    "huge": lambda rng, n: rng.uniform(-1e70, 1e70, n),
    "mixed scales": lambda rng, n: rng.normal(0, 1, n) * 10.0 ** rng.integers(-6, 9, n),
}
GAP_RATES = (0.0, 0.0, 0.1, 0.6, 1.0)


@pytest.fixture(scope="session")
def nasty() -> Callable[..., tuple[Array, Schema]]:
    """Rows and schema from a seed: any mix of columns, one-hot groups, gaps, sorted or not."""

    def make(seed: int, most_rows: int = 40) -> tuple[Array, Schema]:
        rng = np.random.default_rng(seed)
        n = int(rng.integers(0, most_rows + 1))
        kinds = list(rng.choice(list(CONTINUOUS), size=rng.integers(0, 5)))
        singles, categories = int(rng.integers(0, 3)), int(rng.choice([0, 2, 3]))
        columns = [CONTINUOUS[kind](rng, n) for kind in kinds]
        columns += [(rng.random(n) < rng.choice([0.0, 0.05, 0.5, 1.0])).astype(float) for _ in range(singles)]
        category = rng.integers(0, categories + 1, n)
        columns += [(category == k).astype(float) for k in range(categories)]
        names = [f"c{i}" for i in range(len(kinds))] + [f"s{i}" for i in range(singles)]
        names += [f"t${k}" for k in range(categories)]
        ungrouped = len(kinds) + singles
        groups = (*range(ungrouped), *[ungrouped] * categories)
        x = np.array(columns, dtype=float).reshape(len(names), n).T.copy()
        if rng.random() < 0.3 and len(kinds):
            x = x[np.argsort(x[:, 0])]
        for group in set(groups):
            missing = rng.random(n) < rng.choice(GAP_RATES)
            x[np.ix_(missing, [i for i, g in enumerate(groups) if g == group])] = np.nan
        return x, Schema(tuple(names), len(kinds), tuple(groups))

    return make


class Exact:
    """Sums and covariances of rows as fractions."""

    def __init__(self, x: Array) -> None:
        self.x = [[None if np.isnan(v) else Fraction(float(v)) for v in row] for row in x]
        self.p = x.shape[1]

    def rows(self, *columns: int) -> list[list[Fraction]]:
        """The rows that have all columns, cut down to them."""
        kept = ([row[i] for i in columns] for row in self.x)
        return [row for row in kept if None not in row]  # type: ignore[misc]

    def covariance(self, i: int, j: int) -> Fraction | None:
        rows = self.rows(i, j)
        n = len(rows)
        if n == 0:
            return None
        mean_i, mean_j = sum(a for a, _ in rows) / n, sum(b for _, b in rows) / n
        return sum((a - mean_i) * (b - mean_j) for a, b in rows) / n

    def power_sum(self, i: int, origin: float, power: int) -> Fraction:
        return sum(((v - Fraction(origin)) ** power for (v,) in self.rows(i)), Fraction(0))

    def product(self, i: int, j: int, oi: float, oj: float) -> Fraction:
        return sum(((a - Fraction(oi)) * (b - Fraction(oj)) for a, b in self.rows(i, j)), Fraction(0))

    def square_where(self, i: int, j: int, origin: float) -> Fraction:
        """Sum u_i^2 x_j."""
        return sum(((a - Fraction(origin)) ** 2 * b for a, b in self.rows(i, j)), Fraction(0))


@pytest.fixture(scope="session")
def exact() -> type[Exact]:
    return Exact


@pytest.fixture(scope="session")
def assert_moments() -> Callable[..., None]:
    """Compare every published sum with exact arithmetic about the same origin; `tolerance` is relative to the sums of
    absolute terms, or to `scale` (p,), the sums of squares that went in."""

    def check(m: Moments, x: Array, tolerance: float = 1e-13, scale: Array | None = None) -> None:
        reference, c, p = Exact(x), m.schema.continuous, m.size
        P, o = packed.unpack(m.P, p), [float(value) for value in m.origin]
        squares = np.array([float(reference.power_sum(i, o[i], 2)) for i in range(p)])
        squares = squares if scale is None else np.maximum(squares, scale)
        root = np.sqrt(squares)
        counts, sums, Q1 = pair_counts(m), pair_sums(m), mask_squares(m)
        place = positions(m.schema, m.gaps)
        assert m.n == len(x)

        def near(value: float, wanted: Fraction, bound: float) -> None:
            assert abs(Fraction(float(value)) - wanted) <= Fraction(tolerance * float(bound) + 1e-300)

        for i in range(p):
            near(m.s[i], reference.power_sum(i, o[i], 1), root[i] * np.sqrt(m.n))
            for j in range(p):
                rows = reference.rows(i, j)
                assert counts[i, j] == len(rows)
                near(P[i, j], reference.product(i, j, o[i], o[j]), root[i] * root[j])
                near(sums[i, j], sum((r[0] - Fraction(o[i]) for r in rows), Fraction(0)), root[i] * np.sqrt(m.n))
        for i in range(c):
            near(m.t3[i], reference.power_sum(i, o[i], 3), squares[i] * root[i])
            near(m.t4[i], reference.power_sum(i, o[i], 4), squares[i] * squares[i])
            for j in range(p - c):
                near(m.G[i, j], reference.square_where(i, c + j, o[i]), squares[i])
            for j in range(p):
                both = sum(((r[0] - Fraction(o[i])) ** 2 for r in reference.rows(i, j)), Fraction(0))
                near(Q1[i, place[j]], both, squares[i])

    return check
