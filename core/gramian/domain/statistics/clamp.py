"""Move statistics onto the bounds that `checks.verify` has, before peers see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import counts, pair_sums
from gramian.domain.statistics.gaps import mask_counts, mask_squares, mask_sums, positions, second_moments
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.possible import possible, tolerance

_FIRST_RAISE = 2.0**-50
_STEPS = 24


def clamp(m: Moments) -> Moments:
    """The same statistics within the bounds of `checks.verify`, without local arrays.

    Forgetting leaves rounding errors of the size of what was forgotten, which can break inequalities that hold
    for rows. Sums of squares are raised as little as it takes (G, then Q, then P_ii, then T4) and T3 is cut;
    sums, counts and cross products stay. Raises ValueError for statistics that no rows can have.
    """
    G = _raised_conditional_squares(m)
    squares = _raised_squares(m, G)
    error = np.abs(squares[:, -1]) if m.local is None else m.local.a[: m.schema.continuous]
    m = replace(m, G=G, local=None)
    raise_by = _FIRST_RAISE
    for _ in range(_STEPS):
        # Half the tolerance of `verify`: another machine's Cholesky rounds otherwise.
        if possible(m, tolerance(m.size) / 2.0, _diagonal(m, squares)):
            return _with_powers_in_bounds(_with_squares(m, squares))
        squares[:, -1] += raise_by * error
        raise_by *= 4.0
    raise ValueError("statistics are inconsistent: no rows have them")


def _raised_conditional_squares(m: Moments) -> Array:
    """G at least P_ij^2 / n1."""
    c = m.schema.continuous
    if not m.G.size:
        return m.G
    products = packed.columns(m.P, m.size, 0, c, c)
    raised: Array = np.maximum(m.G, _ratio(products * products, pair_sums(m)[c:, :c].T))
    return raised


def _raised_squares(m: Moments, G: Array) -> Array:
    """(p_c, q + 1) Q at least S^2 / N and G, and in the last column P_ii at least each of its Q."""
    c, place = m.schema.continuous, positions(m.schema, m.gaps)
    S1, N1 = mask_sums(m)[:c], mask_counts(m)[place[:c]]
    squares = np.maximum(mask_squares(m), _ratio(S1 * S1, N1))
    np.maximum.at(squares.T, place[c:], G.T)
    squares[:, -1] = squares.max(axis=1)
    return squares


def _diagonal(m: Moments, squares: Array) -> Array:
    """(p,) P_ii with those of C replaced."""
    return np.concatenate((squares[:, -1], second_moments(m)[m.schema.continuous :]))


def _with_squares(m: Moments, squares: Array) -> Moments:
    c, q, place = m.schema.continuous, len(m.gaps), positions(m.schema, m.gaps)
    squares = squares.copy()
    squares[np.arange(c), place[:c]] = squares[:, -1]
    P = m.P.copy()
    P[packed.diagonal(m.size)[:c]] = squares[:, -1]
    return replace(m, P=P, Q=squares[:, :q].copy())


def _with_powers_in_bounds(m: Moments) -> Moments:
    """T2^2 / n <= T4 <= T2^2 and T3^2 <= T2 T4."""
    c = m.schema.continuous
    n, t2 = np.maximum(counts(m)[:c], 1.0), second_moments(m)[:c]
    t4 = np.maximum(np.minimum(m.t4, t2 * t2), t2 * t2 / n)
    limit = np.sqrt(t2) * np.sqrt(t4)
    return replace(m, t4=t4, t3=np.clip(m.t3, -limit, limit))


def _ratio(squares: Array, n: Array) -> Array:
    """squares / n, where n = 0 none."""
    return squares / np.maximum(n, 1.0) * (n > 0)
