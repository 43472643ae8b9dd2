"""Rebase, add and subtract statistics (statistics.md, sections 1, 3 and 6).

Nodes promise equal bits for equal inputs, so this is host numpy with element-wise operations in a written-down
order: no BLAS, no `**`, no full sums, which differ between machines and versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from gramian.domain.statistics.moments import Array, LocalMoments, M, Moments, Summary, Sums
from gramian.domain.statistics.origin import rounded
from gramian.domain.statistics.widen import empty

EPS = 2.0**-52
FAR_SD = 16.0
"""Standard deviations between mean and origin beyond which statistics move to another origin."""
DOUBTFUL = 1e-10
"""Relative error of a variance that is worth a warning."""
IMPOSSIBLE = 1e-12
"""Share of A by which rounding alone cannot push a sum of squares below 0."""


def rebase(m: M, origin: Array) -> M:
    """The same rows about another origin (p,), which is 0 for B. Loses digits with the square of the distance in
    standard deviations. Raises ValueError for an origin of B that is not 0."""
    if not (m.origin - origin).any():
        return m
    shift = Shift.of(m, origin)
    moved: M = shift.sums(m)
    if isinstance(moved, Summary):
        return moved
    P, G = m.P.copy(), m.G.copy()
    for first, last in packed.blocks(m.size):
        shift.rows(first, P[packed.span(first, last, m.size)], G[first : min(last, len(G))])
    return replace(moved, P=P, G=G, local=_rebase_local(m.local, P[packed.diagonal(m.size)]))


@dataclass(frozen=True, slots=True)
class Shift:
    """What moves statistics to `origin`, by `t` = the old less the new one."""

    origin: Array
    t: Array
    place: NDArray[np.intp]
    N1: Array
    S1: Array
    by_mask: Array  # S1 transposed

    @classmethod
    def of(cls, m: Sums, origin: Array) -> Shift:
        """Raises ValueError for an origin of B that is not 0."""
        t = m.origin - origin
        if t[m.schema.continuous :].any():
            raise ValueError("the origin of type B is 0")
        S1 = mask_sums(m)
        by_mask = np.ascontiguousarray(S1.T)
        return cls(origin, t, positions(m.schema, m.gaps), mask_counts(m), S1, by_mask)

    def sums(self, m: M) -> M:
        """All of `m` moved but P, G and the local arrays."""
        c, q = m.schema.continuous, len(m.gaps)
        sums = self.S1 + self.t[:, None] * self.N1[self.place]
        t, n = self.t[:c], self.N1[self.place[:c]]
        # As for P_ii, to the bit: where attribute i is present, Q is P_ii.
        cross = t[:, None] * self.S1[:c]
        squares = mask_squares(m) + ((cross + cross) + (t * t)[:, None] * n)
        t3, t4 = _rebase_powers(m, t, n[:, q])
        more: dict[str, Any] = {}
        if isinstance(m, Summary):
            more["squares"] = np.concatenate((squares[:, q], m.squares[c:]))
        s, S, Q = sums[:, q].copy(), sums[:, :q].copy(), squares[:, :q].copy()
        return replace(m, origin=self.origin, s=s, t3=t3, t4=t4, S=S, Q=Q, **more)

    def rows(self, first: int, P: Array, G: Array) -> None:
        """Move in place the rows from `first` on of P (packed) and of G. Those of B need no change: t is 0 there and
        right of there."""
        p, count = len(self.t), len(G)
        own, others, both = self._block(slice(first, first + count), slice(first, p))
        t, u = self.t[first : first + count, None], self.t[first:]
        moved = (t * others + u * own) + t * u * both
        ends = np.cumsum(p - np.arange(first, first + count))
        if G.size:
            ones = np.array([P[end - G.shape[1] : end] for end in ends])
            G += 2.0 * t * ones + t * t * others[:, -G.shape[1] :]
        packed.add_upper(P, moved)

    def _block(self, rows: slice, columns: slice) -> tuple[Array, Array, Array]:
        """S_i,g(j), S_j,g(i) and N_g(i),g(j) for some i and j; without gaps they do not depend on both."""
        if len(self.N1) == 1:
            return self.S1[rows], self.by_mask[:, columns], self.N1
        place = self.place
        return (
            self.S1[rows][:, place[columns]],
            self.by_mask[place[rows]][:, columns],
            self.N1[place[rows]][:, place[columns]],
        )


def _rebase_powers(m: Sums, t: Array, n: Array) -> tuple[Array, Array]:
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
    same_schema(a, b)
    if a.n == 0 or b.n == 0:
        return replace(b if a.n == 0 else a, local=_add_local(a.local, b.local))
    origin = pooled_origin(a, b)
    a, b = rebase(a, origin), rebase(b, origin)
    return normalise(replace(combine(np.add, a, b), local=_add_local(a.local, b.local)))


def subtract(a: Moments, b: Moments) -> Moments:
    """Forget: the statistics of the rows of `a` that are not in `b`, about a's origin. `low` and `high` stay as
    bounds, A adds up. Raises ValueError, naming the attribute, if the rows of `b` cannot be among those of `a`."""
    same_schema(a, b)
    if b.n > a.n:
        raise ValueError(f"{b.n} rows to forget, but only {a.n} were learned")
    b = rebase(b, a.origin)
    error = _error_scale(a) + _error_scale(b)
    left = combine(np.subtract, a, b)
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


def same_schema(a: Sums, b: Sums) -> None:
    if a.schema != b.schema:
        raise ValueError("statistics of different schemas do not add")


def pooled_origin(a: Sums, b: Sums) -> Array:
    """(p,) origin that `add` moves both to."""
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


def combine(operation: np.ufunc, a: M, b: M) -> M:
    """a + b or a - b, both about a's origin; the local arrays are a's."""
    gaps = set(a.gaps) | set(b.gaps)
    a, b = expand(a, gaps), expand(b, gaps)
    names = ("s", "t3", "t4", "N", "S", "Q", *(("squares",) if isinstance(a, Summary) else ("P", "G")))
    return replace(
        a, n=int(operation(a.n, b.n)), **{name: operation(getattr(a, name), getattr(b, name)) for name in names}
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
