"""Minimum-norm least squares from correlations (statistics.md, section 4, points 2 to 5).

Works on plain arrays, so that other linear models can share it: R (p, p) correlations of the inputs, r (p,) their
correlations with the target, scale (p,) the inputs' standard deviations up to a common factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.domain.models.cholesky import (
    Factor,
    combine,
    factorise,
    inverse_diagonal,
    solve_lower,
    solve_upper,
)
from gramian.domain.statistics.moments import Array

EPSILON = 2.0**-52
FULL_DIGITS = 14
"""Most decimal digits of a prediction to expect: float64 has 15, and sums round."""
INDEFINITE = 1e-10
"""Eigenvalues of pairwise correlations down to minus this count as zero."""


@dataclass(frozen=True, slots=True)
class Solution:
    """Standardised slopes `gamma` (p,), the share `explained` of the target's variance, and what errors need.

    The solution of least norm *of the unscaled slopes* gamma / scale is chosen where there are many. `null`
    (rank, p - rank) writes each dependent column as a combination of the pivots, all in standard deviations.
    """

    gamma: Array
    explained: float
    factor: Factor
    null: Array

    @property
    def rank(self) -> int:
        return self.factor.rank

    @property
    def estimable(self) -> NDArray[np.bool_]:
        """(p,) False where the data leave a slope open: the null space touches it."""
        result = np.zeros(len(self.gamma), dtype=bool)
        result[self.factor.pivots] = ~self.null.any(axis=1)
        return result

    @property
    def digits(self) -> int:
        """Decimal digits of the predictions to expect. The error is about eps over the least eigenvalue of R; the
        last pivot stands for that, and 4 eps for eps, to be on the safe side. Counted on the binary exponent, since
        logarithms differ between machines."""
        _, exponent = math.frexp(self.factor.last_pivot / (4 * EPSILON))
        return max(0, min(FULL_DIGITS, (exponent - 1) * 30103 // 100_000))

    def variances(self) -> Array:
        """(p,) diagonal of the pseudo-inverse of R scaled to the slopes; NaN where not estimable.

        Any symmetric generalised inverse has the pseudo-inverse's entries where the null space does not reach,
        so the inverse over the pivots serves.
        """
        result = np.full(len(self.gamma), np.nan)
        result[self.factor.pivots] = inverse_diagonal(self.factor)
        result[~self.estimable] = np.nan
        return result

    def variance_along(self, direction: Array) -> float:
        """v^T R^+ v for v (p,) in standard deviations, as `variances` gives for the axes; NaN if not estimable."""
        pivot_part, dependent_part = direction[self.factor.pivots], direction[self.factor.dependents]
        if self.null.size:
            excess = np.abs(dependent_part - combine(pivot_part, self.null))
            total = np.abs(dependent_part) + combine(np.abs(pivot_part), np.abs(self.null))
            if (excess > _noise(self.factor) * total).any():
                return math.nan
        z = solve_lower(self.factor.U, pivot_part)
        return math.fsum((z * z).tolist())


def least_squares(R: Array, r: Array, scale: Array) -> Solution:
    """Solve R gamma = r. R (p, p) symmetric with unit diagonal and no eigenvalue below -INDEFINITE."""
    factor = factorise(R)
    z = solve_lower(factor.U, r[factor.pivots])
    gamma = np.zeros(len(r))
    gamma[factor.pivots] = solve_upper(factor.U, z[:, None])[:, 0]
    null = _null_space(factor)
    if null.shape[1]:
        dependent = _least_norm(gamma, null, factor, scale)
        gamma[factor.dependents] = dependent
        # Solved anew rather than moved along the null space, whose own rounding would spoil the predictions.
        remainder = z - combine(dependent, factor.U[:, factor.rank :].T)
        gamma[factor.pivots] = solve_upper(factor.U, remainder[:, None])[:, 0]
    return Solution(gamma, math.fsum((z * z).tolist()), factor, null)


def _noise(factor: Factor) -> float:
    """Size below which an entry of the null space cannot be told from the rounding of R."""
    return max(1e-8, 64 * EPSILON / factor.last_pivot)


def _null_space(factor: Factor) -> Array:
    null: Array = solve_upper(factor.U, factor.U[:, factor.rank :])
    null[np.abs(null) <= _noise(factor)] = 0.0
    return null


def _least_norm(gamma: Array, null: Array, factor: Factor, scale: Array) -> Array:
    """(p - rank,) standardised slopes of the dependent columns in the solution of least norm of gamma / scale."""
    weight: Array = scale.min() / scale  # a common factor does not matter, and this one cannot overflow
    basis = np.zeros((len(gamma), null.shape[1]))
    basis[factor.pivots] = -null
    basis[factor.dependents] = np.eye(null.shape[1])
    basis = _orthonormal(basis * weight[:, None])
    slopes = gamma * weight
    least: Array = slopes - combine(combine(slopes, basis), basis.T)
    standardised: Array = least[factor.dependents] / weight[factor.dependents]
    return standardised


def _orthonormal(B: Array) -> Array:
    """Orthonormal columns that span those of B (p, m): modified Gram-Schmidt, twice, which is enough."""
    Q: Array = B / np.abs(B).max(axis=0)
    for _ in range(2):
        for j in range(Q.shape[1]):
            column = Q[:, j]
            norm = math.sqrt(math.fsum((column * column).tolist()))
            if norm > 0.0:
                column /= norm
            Q[:, j + 1 :] -= column[:, None] * combine(column, Q[:, j + 1 :])
    return Q


def shrinkage(R: Array) -> float:
    """The a for which (R + a I) / (1 + a) is safely definite; 0.0 if R (p, p) has no eigenvalue below
    -max(INDEFINITE, 1e-12 p), as R has without gaps.

    a is twice the least power of two t that makes R + t I definite, so that the least eigenvalue of R + a I is at
    least t. (Of 1, 2, 4, 8 and 16 times t, twice predicted best on duplicated and near-collinear columns with gaps.)
    Found by bisection with the factor, not with an eigenvalue routine, so that all nodes choose the same a.
    """
    tolerance = max(INDEFINITE, 1e-12 * len(R))
    if _definite(R, tolerance):
        return 0.0
    bound = float(np.abs(R).sum(axis=0).max())
    low, high = math.frexp(tolerance)[1] - 1, math.frexp(bound)[1]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _definite(R, math.ldexp(1.0, middle)) else (middle, high)
    return math.ldexp(1.0, high + 1)


def _definite(R: Array, shift: float) -> bool:
    return factorise(R + shift * np.eye(len(R))).rank == len(R)
