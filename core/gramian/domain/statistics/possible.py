"""Which second moments rows can have: [[N, S^T], [S, P]] over masks and values is positive semidefinite
(statistics.md, section 5). Without gaps that says the same as the covariance; with gaps the pairwise covariances
themselves need not be, so testing those would refuse honest peers."""

from __future__ import annotations

import numpy as np

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import mask_counts, mask_sums
from gramian.domain.statistics.moments import Array, Moments

TINY = 1e-280
"""Second moments below this have lost digits to denormal numbers: they are scaled as if they were this large."""


def tolerance(p: int) -> float:
    """tau: what rounding may leave below 0 among eigenvalues, on the scale of a unit diagonal."""
    return max(1e-10, 1e-12 * p)


def scaled_products(m: Moments) -> Array:
    """(q + 1 + p)^2 products of masks, then attributes, on the scale of a unit diagonal."""
    N1, S1 = mask_counts(m), mask_sums(m)
    products = np.block([[N1, S1.T], [S1, packed.unpack(m.P, m.size)]])
    scale = np.sqrt(np.maximum(products.diagonal(), TINY))
    with np.errstate(over="ignore"):  # products far above their bounds
        products /= scale[:, None]
        products /= scale
    return products


def possible(products: Array, tau: float) -> bool:
    """Whether there is a Cholesky factor once tau is on the diagonal."""
    if not np.isfinite(products).all():
        return False
    try:
        np.linalg.cholesky(products + tau * np.eye(len(products)))
    except np.linalg.LinAlgError:
        return False
    return True


def first_impossible(products: Array, tau: float) -> int | None:
    """First row with which the leading block has no Cholesky factor; None if the whole has one."""
    if possible(products, tau):
        return None
    good, bad = 0, len(products)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if possible(products[:middle, :middle], tau) else (good, middle)
    return bad - 1
