"""Exploration of one attribute and of two (contract, section 7, formulas fixed by its samples).

A result is None where the rows do not determine it: no rows, or a correlation without a spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TypeAlias

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import mask_counts, mask_squares, mask_sums, positions
from gramian.domain.statistics.moments import Moments

Results: TypeAlias = dict[str, float | None]

Z95 = 1.96
"""Two-sided 95 % of the normal distribution."""
NO_SPREAD = 1e-12
"""Share of the sum of squares below which what is left about the mean is rounding."""


def univariate(m: Moments, i: int) -> Results:
    """Population variance, bias-corrected skewness n^2 / ((n-1)(n-2)) m3 / sigma^3, and kurtosis m4 / sigma^4, which is
    3 for a normal distribution."""
    n, s, t2, t3, t4 = _powers(m, i)
    d, mean_square = _ratio(s, n), _ratio(t2, n)
    variance = _variance(mean_square, d)
    results: Results = dict.fromkeys(
        ("count", "mean", "variance", "stddev", "skewness", "kurtosis", "stderr", "meanMarginErrorC95")
    )
    results["count"] = n
    if d is None or mean_square is None or variance is None:
        return results
    stderr = sqrt(variance / n)
    results |= {"mean": float(m.origin[i]) + d, "variance": variance, "stddev": sqrt(variance)}
    results |= {"stderr": stderr, "meanMarginErrorC95": Z95 * stderr}
    if variance > 0.0:
        m3 = t3 / n - 3.0 * d * mean_square + 2.0 * d * d * d
        m4 = t4 / n - 4.0 * d * (t3 / n) + 6.0 * d * d * mean_square - 3.0 * d * d * d * d
        results["kurtosis"] = m4 / (variance * variance)
        if n > 2:
            results["skewness"] = n * n / ((n - 1.0) * (n - 2.0)) * m3 / (variance * sqrt(variance))
    return results


def bivariate(m: Moments, i: int, j: int) -> Results:
    """Covariance and correlation of x (i) and y (j), and x under the weights y, over the rows that have both.

    condCount = sum y, condSum = sum xy, condMean = sum xy / sum y, condVariance = sum (xy)^2 / sum y - condMean^2: for
    a binary y, mean and variance of x where y is 1. Without condVariance and condStddev when both are of type C, since
    sum x^2 y^2 does not follow from what is kept.
    """
    pair = _Pair.of(m, i, j)
    covar = None if pair.n == 0 else pair.product / pair.n - (pair.x / pair.n) * (pair.y / pair.n)
    count, total = pair.raw_y, pair.raw_product
    results: Results = {"covar": covar, "linCorr": _correlation(pair, covar), "condCount": count, "condSum": total}
    mean = _ratio(total, count)
    c = m.schema.continuous
    if j >= c:
        # About the origin, which keeps the digits that a large mean hides.
        shifted = _ratio(pair.product, count)
        mean = None if shifted is None else pair.origin_x + shifted
        square = float(m.G[i, j - c]) if i < c else pair.product
        variance = _variance(_ratio(square, count), shifted)
    elif i >= c:
        square = float(m.G[j, i - c]) + 2.0 * pair.origin_y * pair.product + pair.origin_y * pair.origin_y * pair.x
        variance = _difference(_ratio(square, count), mean)
    else:
        return results | {"condMean": mean}
    stddev = None if variance is None or variance < 0.0 else sqrt(variance)
    return results | {"condMean": mean, "condVariance": variance, "condStddev": stddev}


@dataclass(frozen=True, slots=True)
class _Pair:
    """Sums over the n rows that have both attributes, about the origins: of u_i, u_j, u_i u_j, u_i^2 and u_j^2."""

    n: float
    origin_x: float
    origin_y: float
    x: float
    y: float
    product: float
    square_x: float
    square_y: float

    @classmethod
    def of(cls, m: Moments, i: int, j: int) -> _Pair:
        place = positions(m.schema, m.gaps)
        S1 = mask_sums(m)
        x, y = float(S1[i, place[j]]), float(S1[j, place[i]])
        squares, c = mask_squares(m), m.schema.continuous
        return cls(
            n=float(mask_counts(m)[place[i], place[j]]),
            origin_x=float(m.origin[i]),
            origin_y=float(m.origin[j]),
            x=x,
            y=y,
            product=float(m.P[packed.entry(i, j, m.size)]),
            square_x=float(squares[i, place[j]]) if i < c else x,
            square_y=float(squares[j, place[i]]) if j < c else y,
        )

    @property
    def raw_y(self) -> float:
        """Sum of y itself."""
        return self.y + self.origin_y * self.n

    @property
    def raw_product(self) -> float:
        """Sum of x y themselves."""
        shifts = self.origin_x * self.y + self.origin_y * self.x
        return self.product + shifts + self.origin_x * self.origin_y * self.n


def _powers(m: Moments, i: int) -> tuple[float, float, float, float, float]:
    """n_i and the sums of the first four powers of u_i; those of a B are all its count of ones."""
    n = float(mask_counts(m)[positions(m.schema, m.gaps)[i], -1])
    s = float(m.s[i])
    if i >= m.schema.continuous:
        return n, s, s, s, s
    return n, s, float(m.P[packed.entry(i, i, m.size)]), float(m.t3[i]), float(m.t4[i])


def _correlation(pair: _Pair, covar: float | None) -> float | None:
    x = _variance(_ratio(pair.square_x, pair.n), _ratio(pair.x, pair.n))
    y = _variance(_ratio(pair.square_y, pair.n), _ratio(pair.y, pair.n))
    if covar is None or not x or not y:
        return None
    return min(1.0, max(-1.0, covar / sqrt(x) / sqrt(y)))


def _variance(mean_square: float | None, mean: float | None) -> float | None:
    """Population variance, 0 where only rounding is left."""
    variance = _difference(mean_square, mean)
    if variance is None or mean_square is None:
        return None
    return variance if variance > NO_SPREAD * mean_square else 0.0


def _difference(mean_square: float | None, mean: float | None) -> float | None:
    return None if mean_square is None or mean is None else mean_square - mean * mean


def _ratio(total: float, n: float) -> float | None:
    return None if n == 0 else total / n
