"""Where values are kept about: the origin rule (statistics.md, section 1)."""

from __future__ import annotations

import numpy as np

from gramian.domain.statistics.derived import counts, means, variances
from gramian.domain.statistics.moments import Array, Sums

_EXACT = 2.0**53


def rounded(mean: Array, variance: Array) -> Array:
    """(p,) means, rounded half to even to a multiple of 2^floor(log2 sd); unchanged where the variance is 0.

    Powers of two by frexp and ldexp: log2 differs between machines.
    """
    exponent = np.frexp(np.sqrt(variance))[1] - 1
    with np.errstate(over="ignore"):
        scaled = np.ldexp(mean, -exponent)
    # From 2^53 units on a mean is a multiple of its unit already.
    coarse = (variance > 0) & (np.abs(scaled) < _EXACT)
    multiple = np.ldexp(np.rint(np.where(coarse, scaled, 0.0)), exponent)
    return np.where(coarse, multiple, mean) + 0.0


def standard_origin(m: Sums) -> Array:
    """(p,) the rule applied to the statistics' own n, s and T2: 0 for B and where every value is missing."""
    c = m.schema.continuous
    kept = counts(m)[:c] > 0
    origin = np.zeros(m.size)
    origin[:c] = rounded(np.where(kept, means(m)[:c], 0.0), np.where(kept, variances(m)[:c], 0.0))
    return origin
