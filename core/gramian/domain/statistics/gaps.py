"""Missing values: which rows are present for which attributes (statistics.md, section 1).

Formulas get one shape for data with and without gaps by an extra last mask, the constant 1, which stands for
every group without a gap: `N1` is (q + 1, q + 1), `S1` (p, q + 1), `Q1` (p_c, q + 1), and `positions` says which
mask is that of each attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics import packed
from gramian.domain.statistics.moments import Array, M, Summary, Sums
from gramian.domain.statistics.schema import Schema


def positions(schema: Schema, gaps: Sequence[int]) -> NDArray[np.intp]:
    """(p,) column of each attribute's mask in N1, S1 and Q1; q (the last) without a gap."""
    if not gaps:
        return np.zeros(schema.size, dtype=np.intp)
    place = {group: k for k, group in enumerate(gaps)}
    return np.array([place.get(group, len(gaps)) for group in schema.groups], dtype=np.intp)


def one_hot_groups(schema: Schema) -> list[list[int]]:
    """Attributes of type B that share a mask group: the categories of one column, of which a row has at most one."""
    members: dict[int, list[int]] = {}
    for i in range(schema.continuous, schema.size):
        members.setdefault(schema.groups[i], []).append(i)
    return [group for group in members.values() if len(group) > 1]


def second_moments(m: Sums) -> Array:
    """(p,) P_ii = sum u_i^2."""
    return m.squares if isinstance(m, Summary) else m.P[packed.diagonal(m.size)]


def mask_counts(m: Sums) -> Array:
    """N1 (q + 1, q + 1): rows that two masks share; the last mask is all rows."""
    q = len(m.gaps)
    full = np.empty((q + 1, q + 1))
    full[:q, :q] = packed.unpack(m.N, q)
    full[q, :q] = full[:q, q] = m.N[packed.diagonal(q)]
    full[q, q] = m.n
    return full


def mask_sums(m: Sums) -> Array:
    """S1 (p, q + 1): sum u_i m_h; the last column is s."""
    return np.concatenate((m.S, m.s[:, None]), axis=1)


def mask_squares(m: Sums) -> Array:
    """Q1 (p_c, q + 1): sum u_i^2 m_h; the last column is P_ii."""
    return np.concatenate((m.Q, second_moments(m)[: m.schema.continuous, None]), axis=1)


def expand(m: M, gaps: Iterable[int]) -> M:
    """The same statistics with N, S and Q for a superset of `m.gaps`, sorted."""
    target = tuple(sorted(gaps))
    if target == m.gaps:
        return m
    place = {group: k for k, group in enumerate(m.gaps)}
    source = np.array([place.get(group, len(m.gaps)) for group in target], dtype=np.intp)
    return replace(
        m,
        gaps=target,
        N=packed.pack(mask_counts(m)[source[:, None], source]),
        S=mask_sums(m).take(source, axis=1),
        Q=mask_squares(m).take(source, axis=1),
    )


def normalise(m: M) -> M:
    """Normal form: without the groups of which no row is missing."""
    q = len(m.gaps)
    kept = np.flatnonzero(m.N[packed.diagonal(q)] != m.n)
    if len(kept) == q:
        return m
    return replace(
        m,
        gaps=tuple(m.gaps[k] for k in kept),
        N=packed.pack(packed.unpack(m.N, q)[kept[:, None], kept]),
        S=m.S.take(kept, axis=1),
        Q=m.Q.take(kept, axis=1),
    )
