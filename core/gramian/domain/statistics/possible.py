"""Which second moments rows can have: [[N, S^T], [S, P]] over masks and values is positive semidefinite
(statistics.md, section 5). Without gaps that says the same as the covariance; with gaps the pairwise covariances
themselves need not be, so testing those would refuse honest peers.

The factor is made by blocks of rows, each from those above it, so that it takes no more room than the packed
triangle; up to BLOCK_ROWS it is one call of LAPACK."""

from __future__ import annotations

import numpy as np

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import mask_counts, mask_sums, second_moments
from gramian.domain.statistics.moments import Array, Moments

TINY = 1e-280
"""Second moments below this have lost digits to denormal numbers: they are scaled as if they were this large."""
ONE_BLOCK_ROWS = 1536
"""Up to so many rows a full square takes little memory, and LAPACK alone is fastest."""
BLOCK_ROWS = 192


def tolerance(p: int) -> float:
    """tau: what rounding may leave below 0 among eigenvalues, on the scale of a unit diagonal."""
    return max(1e-10, 1e-12 * p)


def possible(m: Moments, tau: float, squares: Array | None = None) -> bool:
    """Whether the products of `m`, scaled to a unit diagonal, have a Cholesky factor once tau is on it.

    `squares` (p,) takes the place of the P_ii."""
    return first_impossible(m, tau, squares) is None


def first_impossible(m: Moments, tau: float, squares: Array | None = None) -> int | None:
    """First row, of q + 1 masks and then p attributes, with which the leading block has no Cholesky factor; None if
    the whole has one."""
    products = _Products(m, second_moments(m) if squares is None else squares, tau)
    size = products.size
    step = size if size <= ONE_BLOCK_ROWS else BLOCK_ROWS
    # One allocation, which goes as a whole: freed blocks of rows would stay with the allocator.
    room = np.empty(sum(min(step, size - first) * (size - first) for first in range(0, size, step)))
    factors: list[tuple[int, Array]] = []
    # What is far above its bounds overflows, and is found out when its own row comes.
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, size, step):
            count = min(step, size - first)
            rows, room = np.split(room, [count * (size - first)])
            rows = products.fill(rows.reshape(count, size - first), first)
            for above, factor in factors:
                part = factor[:, first - above :]
                rows -= part[:, :count].T @ part
            own, others = rows[:, :count], rows[:, count:]
            lower = _factor(own)
            if lower is None:
                return first + _first_without_factor(own)
            if others.size:
                others[:] = np.linalg.solve(lower, others)
                own[:] = lower.T
                factors.append((first, rows))
    return None


class _Products:
    """Blocks of rows of the scaled matrix, with tau on its diagonal."""

    def __init__(self, m: Moments, squares: Array, tau: float) -> None:
        self._m = m
        self._squares = squares
        self._tau = tau
        self._N1, self._S1 = mask_counts(m), mask_sums(m)
        self._masks = len(self._N1)
        self._scale = np.sqrt(np.maximum(np.concatenate((self._N1.diagonal(), squares)), TINY))
        self.size = self._masks + m.size

    def fill(self, rows: Array, first: int) -> Array:
        """Rows from `first` on, (r, size - first); what is below the diagonal means nothing, but is finite."""
        masks, last = self._masks, first + len(rows)
        rows[:, : last - first] = 0.0
        split = min(max(masks - first, 0), last - first)
        if split:
            rows[:split, : masks - first] = self._N1[first : first + split, first:]
            rows[:split, masks - first :] = self._S1[:, first : first + split].T
        own = max(first, masks) - masks
        for k in range(split, last - first):
            i = own + k - split
            rows[k, masks + i - first :] = self._m.P[packed.span(i, i + 1, self._m.size)]
            rows[k, k] = self._squares[i]
        rows /= self._scale[first:last, None]
        rows /= self._scale[first:]
        diagonal = np.arange(last - first)
        rows[diagonal, diagonal] += self._tau
        return rows


def _factor(square: Array) -> Array | None:
    """Lower Cholesky factor of a matrix given by its upper triangle, if there is one."""
    if not np.isfinite(square).all():
        return None
    try:
        return np.asarray(np.linalg.cholesky(square.T), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def _first_without_factor(square: Array) -> int:
    """Least k such that the leading square up to row k has no factor, for a matrix that has none."""
    good, bad = 0, len(square)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _factor(square[:middle, :middle]) is None else (middle, bad)
    return bad - 1
