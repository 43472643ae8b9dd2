"""Rebase, add and subtract statistics (statistics.md, sections 1, 3 and 6).

Nodes promise equal bits for equal inputs, so this is host numpy with element-wise operations in a written-down
order: no BLAS, no `**`, no full sums, which differ between machines and versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import counts, pair_counts, pair_sums, spread
from gramian.domain.statistics.gaps import (
    expand,
    mask_counts,
    mask_squares,
    mask_sums,
    normalise,
    positions,
    second_moments,
)
from gramian.domain.statistics.layout import FLOOR
from gramian.domain.statistics.moments import Array, LocalMoments, Moments
from gramian.domain.statistics.origin import rounded
from gramian.domain.statistics.widen import empty

EPS = 2.0**-52
FAR_SD = 16.0
"""Standard deviations between mean and origin beyond which statistics move to another origin."""
DOUBTFUL = 1e-10
"""Relative error of a variance that is worth a warning."""
IMPOSSIBLE = 1e-12
"""Share of A by which rounding alone cannot push a sum of squares below 0."""


def rebase(m: Moments, origin: Array) -> Moments:
    """The same rows about another origin (p,), which is 0 for B. Loses digits with the square of the distance in
    standard deviations. Raises ValueError for an origin of B that is not 0."""
    t = m.origin - origin
    c, q = m.schema.continuous, len(m.gaps)
    if t[c:].any():
        raise ValueError("the origin of type B is 0")
    if not t.any():
        return m
    place = positions(m.schema, m.gaps)
    N1, S1 = mask_counts(m), mask_sums(m)
    P, G = _rebase_products(m, t, place, N1, S1)
    sums = S1 + t[:, None] * N1[place]
    tc, nc = t[:c], N1[place[:c]]
    # As for P_ii, to the bit: where attribute i is present, Q is P_ii.
    cross = tc[:, None] * S1[:c]
    squares = mask_squares(m) + ((cross + cross) + (tc * tc)[:, None] * nc)
    t3, t4 = _rebase_powers(m, tc, nc[:, q])
    return replace(
        m,
        origin=origin,
        s=sums[:, q].copy(),
        t3=t3,
        t4=t4,
        P=P,
        G=G,
        S=sums[:, :q].copy(),
        Q=squares[:, :q].copy(),
        local=_rebase_local(m.local, P[packed.diagonal(m.size)]),
    )


def _rebase_products(m: Moments, t: Array, place: NDArray[np.intp], N1: Array, S1: Array) -> tuple[Array, Array]:
    """P' and G'. Rows of B need no change: t is 0 there and right of there."""
    c = m.schema.continuous
    P, G = m.P.copy(), m.G.copy()
    by_mask = np.ascontiguousarray(S1.T)
    for i, row in packed.rows(m.size):
        if i == c:
            break
        others = by_mask[place[i]]  # S_j,g(i) for every j
        own = S1[i, place[i:]]  # S_i,g(j) for j >= i
        both = N1[place[i], place[i:]]
        ones = P[row][c - i :].copy()
        P[row] += (t[i] * others[i:] + t[i:] * own) + t[i] * t[i:] * both
        G[i] += 2.0 * t[i] * ones + t[i] * t[i] * others[c:]
    return P, G


def _rebase_powers(m: Moments, t: Array, n: Array) -> tuple[Array, Array]:
    c = m.schema.continuous
    s, t2 = m.s[:c], second_moments(m)[:c]
    t3 = m.t3 + 3.0 * t * t2 + 3.0 * (t * t) * s + t * t * t * n
    t4 = m.t4 + 4.0 * t * m.t3 + 6.0 * (t * t) * t2 + 4.0 * (t * t * t) * s + t * t * t * t * n
    return t3, t4


def _rebase_local(local: LocalMoments | None, squares: Array) -> LocalMoments | None:
    """A bounds the rounding of P_ii, so it never lies below it."""
    return None if local is None else replace(local, a=np.maximum(local.a, squares))


def add(a: Moments, b: Moments) -> Moments:
    """The statistics of the rows of both. Keeps a's origin per attribute while the pooled mean lies within FAR_SD
    pooled standard deviations of it, else takes the rule's from the pooled statistics; where only one side has
    values, its origin is the one in question. Raises ValueError for different schemas."""
    _same_schema(a, b)
    if a.n == 0 or b.n == 0:
        return replace(b if a.n == 0 else a, local=_add_local(a.local, b.local))
    origin = _pooled_origin(a, b)
    a, b = rebase(a, origin), rebase(b, origin)
    return normalise(replace(_combine(np.add, a, b), local=_add_local(a.local, b.local)))


def subtract(a: Moments, b: Moments) -> Moments:
    """Forget: the statistics of the rows of `a` that are not in `b`, about a's origin. `low` and `high` stay as
    bounds, A adds up. Raises ValueError, naming the attribute, if the rows of `b` cannot be among those of `a`."""
    _same_schema(a, b)
    if b.n > a.n:
        raise ValueError(f"{b.n} rows to forget, but only {a.n} were learned")
    b = rebase(b, a.origin)
    error = _error_scale(a) + _error_scale(b)
    left = _combine(np.subtract, a, b)
    _check_remainder(left, error)
    local = None if a.local is None else replace(a.local, a=error)
    return _without_residue(normalise(replace(left, local=local)))


def doubtful(m: Moments) -> list[str]:
    """Attributes whose variance has lost digits by forgetting: error estimate eps A_i / C_ii above DOUBTFUL.
    Raises ValueError without local arrays."""
    if m.local is None:
        raise ValueError("only local statistics know the error of forget")
    c = m.schema.continuous  # B are counts: exact
    a = m.local.a[:c]
    lost = (a > second_moments(m)[:c]) & (EPS * a > DOUBTFUL * spread(m)[:c])
    return [m.schema.names[i] for i in np.flatnonzero(lost)]


def _same_schema(a: Moments, b: Moments) -> None:
    if a.schema != b.schema:
        raise ValueError("statistics of different schemas do not add")


def _pooled_origin(a: Moments, b: Moments) -> Array:
    na, nb = counts(a), counts(b)
    n = np.maximum(na + nb, 1.0)
    base = np.where(na > 0, a.origin, b.origin)
    shift = np.where(nb > 0, b.origin - base, 0.0)
    offset = (a.s + (b.s + shift * nb)) / n
    apart = shift + (b.s / np.maximum(nb, 1.0) - a.s / np.maximum(na, 1.0))
    within = np.maximum(spread(a), 0.0) + np.maximum(spread(b), 0.0)
    variance = (within + apart * apart * (na * nb / n)) / n
    far = np.asarray(np.abs(offset) > FAR_SD * np.sqrt(variance))
    far[a.schema.continuous :] = False
    return np.where(far, rounded(base + offset, variance), base)


def _combine(operation: np.ufunc, a: Moments, b: Moments) -> Moments:
    """a + b or a - b, both about a's origin; the local arrays are a's."""
    gaps = set(a.gaps) | set(b.gaps)
    a, b = expand(a, gaps), expand(b, gaps)
    return replace(
        a,
        n=int(operation(a.n, b.n)),
        s=operation(a.s, b.s),
        t3=operation(a.t3, b.t3),
        t4=operation(a.t4, b.t4),
        P=operation(a.P, b.P),
        G=operation(a.G, b.G),
        N=operation(a.N, b.N),
        S=operation(a.S, b.S),
        Q=operation(a.Q, b.Q),
    )


def _add_local(a: LocalMoments | None, b: LocalMoments | None) -> LocalMoments | None:
    if a is None or b is None:
        return None
    return LocalMoments(a=a.a + b.a, low=np.minimum(a.low, b.low), high=np.maximum(a.high, b.high))


def _error_scale(m: Moments) -> Array:
    """(p,) A, or P_ii where nobody kept it."""
    return second_moments(m) if m.local is None else m.local.a


def _check_remainder(left: Moments, error: Array) -> None:
    names, c = left.schema.names, left.schema.continuous
    n = counts(left)
    _refuse(names, (n < 0) | (n > left.n), "has more values to forget, or more rows, than were learned")
    negative = np.asarray((mask_counts(left) < 0).any(axis=1))[positions(left.schema, left.gaps)]
    _refuse(names, negative, "has other missing values than were learned")
    _refuse(names[c:], (left.s < 0)[c:] | (left.s > n)[c:], "has more values of a kind to forget than were learned")
    squares = second_moments(left)
    rounding = IMPOSSIBLE * error + FLOOR
    wrong = np.where(n > 0, spread(left) < -rounding, np.abs(squares) > rounding)
    _refuse(names, wrong, "has values to forget that were not learned")


def _refuse(names: Sequence[str], bad: NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        raise ValueError(f"attribute {names[int(bad.argmax())]!r} {reason}")


def _without_residue(m: Moments) -> Moments:
    """Exact zeros where no row is left to sum over, in place of the rounding of what was forgotten."""
    if m.n == 0:
        return replace(empty(m.schema), local=None if m.local is None else empty(m.schema).local)
    c, present = m.schema.continuous, counts(m) > 0
    shared, ones = pair_counts(m) > 0, pair_sums(m)[c:].T[:c] > 0  # ones: rows with b_j = 1 that have i
    P = np.where(shared, packed.unpack(m.P, m.size), 0.0)
    P[:c, c:] = np.where(ones, P[:c, c:], 0.0)
    held = mask_counts(m)[positions(m.schema, m.gaps), : len(m.gaps)] > 0
    local = m.local
    if local is not None:
        local = LocalMoments(
            a=np.where(present, local.a, 0.0),
            low=np.where(present, local.low, np.inf),
            high=np.where(present, local.high, -np.inf),
        )
    return replace(
        m,
        s=np.where(present, m.s, 0.0),
        t3=np.where(present[:c], m.t3, 0.0),
        t4=np.where(present[:c], m.t4, 0.0),
        P=packed.pack(P),
        G=np.where(ones, m.G, 0.0),
        S=np.where(held, m.S, 0.0),
        Q=np.where(held[:c], m.Q, 0.0),
        local=local,
    )
