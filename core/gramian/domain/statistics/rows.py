"""Statistics whose P and G come by blocks of rows, so that merging takes little more memory than its result.

Additions are element-wise, so a block of rows of a sum follows from the same rows of its parts, to the bit: what is
built here is computed when it is read, through all levels of a merge at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import normalise, second_moments
from gramian.domain.statistics.merge import Shift, combine, pooled_origin, rebase, same_schema
from gramian.domain.statistics.moments import Array, Moments, Summary

Block: TypeAlias = tuple[Array, Array]
"""Rows of P, packed, and the same rows of G, as many of them as are of type C."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`read(first, last)` gives a block of rows, in arrays that the caller may change."""

    summary: Summary
    read: Callable[[int, int], Block]


def summary_of(m: Moments) -> Summary:
    return Summary(m.schema, m.n, m.origin, m.s, m.t3, m.t4, second_moments(m), m.gaps, m.N, m.S, m.Q)


def rows_of(m: Moments) -> Rows:
    """Those of statistics in memory."""
    p, c = m.size, m.schema.continuous

    def read(first: int, last: int) -> Block:
        return m.P[packed.span(first, last, p)].copy(), m.G[first : min(last, c)].copy()

    return Rows(summary_of(m), read)


def add(a: Rows, b: Rows) -> Rows:
    """As `merge.add`, to the bit. Raises ValueError for different schemas."""
    same_schema(a.summary, b.summary)
    if a.summary.n == 0 or b.summary.n == 0:
        return b if a.summary.n == 0 else a
    origin = pooled_origin(a.summary, b.summary)
    left, right = _moved(a, origin), _moved(b, origin)

    def read(first: int, last: int) -> Block:
        P, G = left.read(first, last)
        more_P, more_G = right.read(first, last)
        P += more_P
        G += more_G
        return P, G

    return Rows(normalise(combine(np.add, left.summary, right.summary)), read)


def collected(rows: Rows) -> Moments:
    """All of it in memory."""
    m = rows.summary
    p, c = m.size, m.schema.continuous
    P, G = np.empty(packed.length(p)), np.empty((c, p - c))
    for first, last in packed.blocks(p):
        P[packed.span(first, last, p)], G[first : min(last, c)] = rows.read(first, last)
    return Moments(m.schema, m.n, m.origin, m.s, m.t3, m.t4, P, G, m.gaps, m.N, m.S, m.Q)


def _moved(rows: Rows, origin: Array) -> Rows:
    if not (rows.summary.origin - origin).any():
        return rows
    shift = Shift.of(rows.summary, origin)

    def read(first: int, last: int) -> Block:
        P, G = rows.read(first, last)
        shift.rows(first, P, G)
        return P, G

    return Rows(rebase(rows.summary, origin), read)
