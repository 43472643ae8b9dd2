"""Diagonal-pivoted Cholesky factor of a correlation matrix, and triangular systems with it.

Every node has to arrive at the same bits, but BLAS and LAPACK round differently from build to build and from
processor to processor. Up to EXACT_SIZE columns everything here is therefore element-wise numpy in a fixed
order (statistics.md, section 4), at 7 ms for 200 columns and 0.2 s for 1,000. Larger matrices use matrix
products, and `Factor.bits_may_differ` says so.

Algorithm: left-looking outer-product Cholesky with complete (diagonal) pivoting, Higham, "Accuracy and Stability
of Numerical Algorithms", section 10.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics.moments import Array

PIVOT_TOLERANCE = 1e-12
"""A column whose variance is explained by the others up to this share is taken as their linear combination."""
EXACT_SIZE = 2_000
"""Most columns for which the element-wise algorithm, with equal bits everywhere, is used."""
BLOCK = 128
"""Rows per matrix product beyond EXACT_SIZE."""
CHUNK = 64
"""Rows whose products are held at once: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Factor:
    """R[order][:, order] = U^T U, up to pivots of at most PIVOT_TOLERANCE.

    `order` (p,) lists the columns of R, the `rank` pivots first; `U` (rank, p) is upper trapezoidal in that order.
    """

    order: NDArray[np.intp]
    U: Array
    last_pivot: float
    bits_may_differ: bool

    @property
    def rank(self) -> int:
        return len(self.U)

    @property
    def pivots(self) -> NDArray[np.intp]:
        """(rank,) the independent columns of R."""
        return self.order[: self.rank]

    @property
    def dependents(self) -> NDArray[np.intp]:
        """(p - rank,) the columns of R that are linear combinations of the pivots."""
        return self.order[self.rank :]


def combine(weights: Array, rows: Array) -> Array:
    """Sum of weights[k] rows[k] over k: (r,), (r, m) -> (m,), with equal bits on every machine."""
    if rows.shape[1] == 1:  # numpy adds a lone column pairwise, in an order of its own
        return combine(weights, np.repeat(rows, 2, axis=1))[:1]
    total = np.zeros(rows.shape[1])
    for start in range(0, len(weights), CHUNK):
        chunk = slice(start, start + CHUNK)
        total += np.multiply(weights[chunk, None], rows[chunk], order="C").sum(axis=0)
    return total


def factorise(R: Array) -> Factor:
    """Factorise the symmetric (p, p) matrix R with a diagonal near 1; the rest beyond its rank is ignored."""
    size = len(R)
    block = size if size <= EXACT_SIZE else BLOCK
    order, U, rank = np.arange(size), np.zeros((size, size)), 0
    remainder = R
    while rank < size:
        local, rows = _panel(remainder, block)
        order[rank:] = order[rank:][local]
        U[:rank, rank:] = U[:rank, rank:][:, local]
        U[rank : rank + len(rows), rank:] = rows
        rank += len(rows)
        if len(rows) < block:
            break
        rest, tail = local[block:], rows[:, block:]
        remainder = remainder[np.ix_(rest, rest)] - tail.T @ tail
    last_root = float(U[rank - 1, rank - 1]) if rank else 1.0
    return Factor(order, U[:rank], last_root * last_root, bits_may_differ=size > EXACT_SIZE)


def _panel(R: Array, steps: int) -> tuple[NDArray[np.intp], Array]:
    """Up to `steps` rows of the factor of R, fewer where no pivot is left, and the order of R's columns in them."""
    size = len(R)
    order, U, diagonal = np.arange(size), np.zeros((min(steps, size), size)), R.diagonal().copy()
    for k in range(len(U)):
        pivot = k + int(diagonal[k:].argmax())
        if not diagonal[pivot] > PIVOT_TOLERANCE:
            return order, U[:k]
        _swap(order, k, pivot)
        _swap(diagonal, k, pivot)
        U[:k, [k, pivot]] = U[:k, [pivot, k]]
        root = np.sqrt(diagonal[k])
        U[k, k] = root
        U[k, k + 1 :] = (R[order[k], order[k + 1 :]] - combine(U[:k, k], U[:k, k + 1 :])) / root
        diagonal[k + 1 :] -= U[k, k + 1 :] * U[k, k + 1 :]
    return order, U


def _swap(values: NDArray[np.intp] | Array, i: int, j: int) -> None:
    values[[i, j]] = values[[j, i]]


def solve_lower(U: Array, b: Array) -> Array:
    """The z (r,) with U[:, :r]^T z = b, for b (r,)."""
    z = b.copy()
    for k in range(len(z)):
        z[k] /= U[k, k]
        z[k + 1 :] -= z[k] * U[k, k + 1 : len(z)]
    return z


def solve_upper(U: Array, B: Array) -> Array:
    """The X (r, m) with U[:, :r] X = B, for B (r, m)."""
    X = B.copy()
    for k in reversed(range(len(X))):
        X[k] /= U[k, k]
        X[:k] -= U[:k, k, None] * X[k]
    return X


def inverse_diagonal(factor: Factor) -> Array:
    """(rank,) diagonal of (U_1^T U_1)^-1 with U_1 the factor's leading square: the inverse over the pivots."""
    size, U = factor.rank, factor.U
    if factor.bits_may_differ:
        rows = np.linalg.inv(U[:, :size]).T
    else:
        rows = np.zeros((size, size))  # U_1^-T, lower triangular, row by row
        for k in range(size):
            row = rows[k]
            for start in range(0, k, CHUNK):
                stop = min(start + CHUNK, k)
                row[:stop] -= combine(U[start:stop, k], rows[start:stop, :stop])
            row[k] = 1.0
            row[: k + 1] /= U[k, k]
    return combine(np.ones(size), rows * rows)
