"""Means, counts and covariances of some statistics (statistics.md, section 1).

Models that must be byte-equal on every node start here: element-wise numpy in a fixed order, no BLAS.
"""

from __future__ import annotations

import numpy as np

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import mask_counts, mask_sums, positions, second_moments
from gramian.domain.statistics.moments import Array, Moments, Sums


def counts(m: Sums) -> Array:
    """(p,) n_i: rows that have attribute i."""
    n: Array = mask_counts(m)[positions(m.schema, m.gaps), -1]
    return n


def means(m: Sums) -> Array:
    """(p,) o + s / n_i; NaN where n_i = 0."""
    return m.origin + offsets(m)


def offsets(m: Sums) -> Array:
    """(p,) mean less origin, s / n_i, which keeps the digits that a large mean hides; NaN where n_i = 0."""
    return _ratio(m.s, counts(m))


def spread(m: Sums) -> Array:
    """(p,) C_ii = P_ii - s_i^2 / n_i, the sum of squares about the mean, which rounding can leave below 0; 0 where
    n_i = 0."""
    return second_moments(m) - m.s * m.s / np.maximum(counts(m), 1.0)


def variances(m: Sums) -> Array:
    """(p,) population variances, at least 0; NaN where n_i = 0. Same bits as the diagonal of `covariance`."""
    n, mean = counts(m), offsets(m)
    return np.maximum(_ratio(second_moments(m), n) - mean * mean, 0.0)


def pair_counts(m: Sums) -> Array:
    """(p, p) n_ij: rows that have both attributes."""
    place = positions(m.schema, m.gaps)
    return mask_counts(m)[place[:, None], place]


def pair_sums(m: Sums) -> Array:
    """(p, p) S_i,g(j): sum of u_i over the rows that have both attributes."""
    return mask_sums(m).take(positions(m.schema, m.gaps), axis=1)


def covariance(m: Moments) -> Array:
    """(p, p) population covariance over the rows that have both attributes: P / n_ij - a c / n_ij^2 with
    a = S_i,g(j), c = S_j,g(i); NaN where n_ij = 0. Exactly symmetric, the diagonal at least 0."""
    n = pair_counts(m)
    mean = _ratio(pair_sums(m), n)
    result = _ratio(packed.unpack(m.P, m.size), n) - mean * mean.T
    diagonal = np.arange(m.size)
    result[diagonal, diagonal] = np.maximum(result[diagonal, diagonal], 0.0)
    return result


def _ratio(sums: Array, n: Array) -> Array:
    """sums / n; NaN where n = 0."""
    ratio: Array = np.divide(sums, n, out=np.full(sums.shape, np.nan), where=n > 0)
    return ratio
