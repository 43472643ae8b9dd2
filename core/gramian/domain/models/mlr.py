"""Multiple linear regression from sufficient statistics (statistics.md, section 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.domain.models.cholesky import EXACT_SIZE
from gramian.domain.models.least_squares import Solution, least_squares, shrinkage
from gramian.domain.models.linear import LinearModel
from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import pair_counts, pair_sums
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema

CONSTANT = 1e-12
"""A type C column whose sum of squares about the mean is at most this share of that about the origin is constant."""
PERFECT = 1e-13
"""A fit that leaves less than this share of the target's sum of squares is perfect: what is left is rounding."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """The inputs and, last, the target: q columns.

    `C` (q, q) are sums of products about the means over the rows that have both columns, scaled to n rows;
    `offset` (q,) is mean less origin.
    """

    n: int
    complete: bool
    origin: Array
    offset: Array
    C: Array
    varies: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Standardised:
    """What of the columns varies: the inputs `kept`, the roots `scale` of their C_ii, and the correlations `R` of
    them and, last, the target, shrunk by `a`. `sst` is C_yy, 0 for a constant target."""

    kept: NDArray[np.intp]
    scale: Array
    sst: float
    R: Array
    a: float


def fit(moments: Moments, inputs: Sequence[int], target: int) -> LinearModel:
    """Regress attribute `target` on the attributes `inputs` (canonical indexes) and a constant.

    Collinear inputs get the slopes of least norm, constants the slope 0. Without gaps the result is, to rounding,
    the fit on the pooled rows. With gaps every moment comes from the rows that have it (pairwise), an indefinite
    correlation matrix is shrunk until it is definite, and errors are approximate (see `LinearModel.n`).

    Raises ValueError for impossible choices of attributes, for statistics without rows, for attributes that were
    never observed, alone or together, and for results beyond the range of float64.
    """
    if moments.n == 0:
        raise ValueError("the statistics hold no rows")
    _check_choice(moments.schema, inputs, target)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused by name
        columns = _columns(moments, [*inputs, target])
        standard = _standardise(columns)
        solution = least_squares(standard.R[:-1, :-1], standard.R[:-1, -1], standard.scale)
        return _record(moments.schema, inputs, target, columns, standard, solution)


def _check_choice(schema: Schema, inputs: Sequence[int], target: int) -> None:
    if not inputs:
        raise ValueError("a regression needs at least one input")
    if not all(0 <= index < schema.size for index in (*inputs, target)):
        raise ValueError("an input or the target is no attribute of these statistics")
    if target in inputs:
        raise ValueError(f"{schema.names[target]} is both target and input")
    if len(set(inputs)) != len(inputs):
        raise ValueError("an input is named twice")


def _columns(moments: Moments, chosen: list[int]) -> _Columns:
    names = [moments.schema.names[index] for index in chosen]
    pick = np.ix_(chosen, chosen)
    N, sums, P = pair_counts(moments)[pick], pair_sums(moments)[pick], packed.unpack(moments.P, moments.size)[pick]
    _check_observed(N, names)
    squares = P.diagonal()
    offset = sums.diagonal() / N.diagonal()
    n = N.min()
    C = (P - sums * sums.T / N) * (n / N)  # n / N is 1 where no pair lacks rows
    if not np.isfinite(C).all():
        raise ValueError("the statistics exceed the range of float64")
    continuous = np.array(chosen) < moments.schema.continuous
    varies = np.where(continuous, C.diagonal() > CONSTANT * squares, (offset > 0.0) & (offset < 1.0))
    return _Columns(int(n), bool(n == N.max()), moments.origin[chosen], offset, C, varies)


def _check_observed(N: Array, names: list[str]) -> None:
    for i, j in np.argwhere(N == 0):
        if N[i, i] == 0:
            raise ValueError(f"{names[i]} was never observed")
        if N[j, j] != 0:
            raise ValueError(f"{names[i]} and {names[j]} were never observed together")


def _standardise(columns: _Columns) -> _Standardised:
    kept = np.flatnonzero(columns.varies[:-1])
    squares = columns.C.diagonal()
    sst = float(squares[-1]) if columns.varies[-1] else 0.0
    chosen = np.append(kept, len(squares) - 1)
    scale = np.sqrt(squares[chosen])
    scale[-1] = math.sqrt(sst) if sst > 0.0 else math.inf  # correlations of a constant target: 0
    R = columns.C[np.ix_(chosen, chosen)] / (scale[:, None] * scale)
    np.fill_diagonal(R, 1.0)
    a = 0.0 if columns.complete else shrinkage(R)
    if a > 0.0:
        R = (R + a * np.eye(len(R))) / (1.0 + a)
    return _Standardised(kept, scale[:-1], sst, R, a)


def _record(
    schema: Schema,
    inputs: Sequence[int],
    target: int,
    columns: _Columns,
    standard: _Standardised,
    solution: Solution,
) -> LinearModel:
    residual = max(0.0, 1.0 - solution.explained)
    sse = residual * standard.sst if residual >= PERFECT else 0.0
    slopes = np.zeros(len(inputs))
    slopes[standard.kept] = solution.gamma * math.sqrt(standard.sst) / standard.scale
    if not np.isfinite(slopes).all():
        raise ValueError("a slope exceeds the range of float64")
    std_errors, intercept_std_error = _std_errors(columns, standard, solution, sse)
    names = tuple(schema.names[index] for index in inputs)
    open_slopes = standard.kept[~solution.estimable]
    # The shrinkage is chosen on a matrix that has the target, too.
    large = not columns.complete and len(standard.R) > EXACT_SIZE
    return LinearModel(
        target=schema.names[target],
        inputs=names,
        n=columns.n,
        rank=solution.rank,
        origin=tuple(columns.origin[:-1].tolist()),
        offset=tuple(columns.offset[:-1].tolist()),
        slopes=tuple(slopes.tolist()),
        target_origin=float(columns.origin[-1]),
        target_offset=float(columns.offset[-1]),
        std_errors=tuple(map(_finite, std_errors.tolist())),
        intercept_std_error=_finite(intercept_std_error),
        sse=sse,
        sst=standard.sst,
        digits=solution.digits,
        complete=columns.complete,
        shrinkage=standard.a,
        constants=tuple(names[i] for i in np.flatnonzero(~columns.varies[:-1])),
        not_estimable=tuple(names[i] for i in open_slopes),
        bits_may_differ=large or solution.factor.bits_may_differ,
    )


def _std_errors(columns: _Columns, standard: _Standardised, solution: Solution, sse: float) -> tuple[Array, float]:
    """Of the slopes (number of inputs,) and of the intercept; NaN for what cannot be given."""
    result = np.full(len(columns.varies) - 1, np.nan)
    df = columns.n - 1 - solution.rank
    if df <= 0:
        return result, math.nan
    variance = sse / df
    result[standard.kept] = np.sqrt(variance * solution.variances()) / standard.scale
    means = (columns.origin + columns.offset)[standard.kept] / standard.scale
    spread = 1.0 / columns.n + solution.variance_along(means)
    return result, math.sqrt(variance * spread)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
