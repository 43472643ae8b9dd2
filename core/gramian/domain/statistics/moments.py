"""The sufficient statistics of some rows (statistics.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics.schema import Schema

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LocalMoments:
    """What never leaves the node: A (p,), the running sum of every P_ii ever added or subtracted, which bounds
    the error of forget, and the row values' `low` and `high` (p,)."""

    a: Array
    low: Array
    high: Array


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over n rows of u_i = m_g(i) (x_i - o_i), with p attributes of which the first p_c are type C.

    Packed arrays hold the upper triangle row-major. `gaps` is H, the sorted mask groups that have any gap (q of
    them); without gaps `N`, `S`, `Q` are empty and follow from the rest: N_gh = N_gg (n without a gap in g),
    S_ih = s_i, Q_ih = P_ii.
    """

    schema: Schema
    n: int
    origin: Array  # (p,); 0 for B
    s: Array  # (p,)   sum u
    t3: Array  # (p_c,) sum u^3
    t4: Array  # (p_c,) sum u^4
    P: Array  # packed (p, p): sum u_i u_j
    G: Array  # (p_c, p_b): sum u_i^2 b_j
    gaps: tuple[int, ...]
    N: Array  # packed (q, q): sum m_g m_h
    S: Array  # (p, q): sum u_i m_h
    Q: Array  # (p_c, q): sum u_i^2 m_h
    local: LocalMoments | None = None

    @property
    def size(self) -> int:
        return self.schema.size


@dataclass(frozen=True, slots=True)
class Summary:
    """What of some `Moments` is small where few values are missing: all but P and G, and the diagonal of P. Where
    statistics are too large to be in memory at once, their P and G come by blocks of rows (`rows`)."""

    schema: Schema
    n: int
    origin: Array  # (p,)
    s: Array  # (p,)
    t3: Array  # (p_c,)
    t4: Array  # (p_c,)
    squares: Array  # (p,) P_ii
    gaps: tuple[int, ...]
    N: Array  # packed (q, q)
    S: Array  # (p, q)
    Q: Array  # (p_c, q)

    @property
    def size(self) -> int:
        return self.schema.size


Sums: TypeAlias = Moments | Summary
M = TypeVar("M", Moments, Summary)
