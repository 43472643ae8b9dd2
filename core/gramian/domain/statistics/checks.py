"""Whether a snapshot can be the statistics of any rows (statistics.md, section 5).

This is plausibility: it catches accidents and clumsy forgeries before they spoil the federation's models. Who
stands behind a snapshot is what signatures say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import counts
from gramian.domain.statistics.gaps import (
    mask_counts,
    mask_squares,
    mask_sums,
    positions,
    second_moments,
)
from gramian.domain.statistics.layout import FLOOR, LARGEST, MOST_ROWS, SUMS, shapes
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.possible import first_impossible, tolerance
from gramian.errors import Refused

SLACK = 1e-9
"""Relative slack of inequalities: two-valued and constant columns sit on the bounds."""


def verify(m: Moments) -> None:
    """Raise Refused, naming the check and the attribute, unless `m` can be the statistics of some rows.

    Local arrays are not looked at. What `clamp` returns for honest statistics always passes. Works on blocks of rows:
    without gaps it takes no more memory than P has.
    """
    _check_form(m)
    with np.errstate(over="ignore"):
        _check_presence(m)
        _check_ones(m)
        _check_cells(m)
        _check_masked_sums(m)
        _check_conditional_squares(m)
        _check_powers(m)
    _check_products(m)


def _check_form(m: Moments) -> None:
    if type(m.n) is not int or not 0 <= m.n <= MOST_ROWS:
        raise Refused("n is not a whole number up to 2^53")
    if list(m.gaps) != sorted(set(m.gaps)) or not set(m.gaps) <= set(m.schema.groups):
        raise Refused("gaps are not sorted mask groups of the schema")
    for name, shape in shapes(m.schema, len(m.gaps)).items():
        values = getattr(m, name)
        if values.dtype != np.float64 or values.shape != shape:
            raise Refused(f"{name} is not float64 of shape {shape}")
    names, c = m.schema.names, m.schema.continuous
    for name in SUMS:
        _check_finite(getattr(m, name), name, _gap_names(m) if name == "N" else names)
    _require(np.abs(m.origin) <= LARGEST, names, "origin is too large")
    _require(m.origin[c:] == 0, names[c:], "origin of type B is not 0")


def _check_finite(values: Array, name: str, names: Sequence[str]) -> None:
    flat = values.reshape(-1)
    for start in range(0, len(flat), packed.BLOCK_ENTRIES):
        finite = np.isfinite(flat[start : start + packed.BLOCK_ENTRIES])
        if not finite.all():
            place = start + int(finite.argmin())
            row = packed.row(place, len(names)) if name in ("P", "N") else place // max(1, len(flat) // len(values))
            raise Refused(f"{name} is not finite: attribute {names[row]!r}")


def _check_presence(m: Moments) -> None:
    """N is whole, within Frechet bounds, and has no group without a gap."""
    N, names = packed.unpack(m.N, len(m.gaps)), _gap_names(m)
    own = N.diagonal()
    _require(_whole(N), names, "N is not whole")
    _require((own >= 0) & (own < m.n), names, "N is not that of a group with gaps")
    _require(_frechet(N, own[:, None], own, m.n), names, "N is out of bounds")


def _check_ones(m: Moments) -> None:
    """Sums of B are whole numbers of rows, also over the rows that have another attribute."""
    c = m.schema.continuous
    names, s = m.schema.names[c:], m.s[c:, None]
    S1, shared = mask_sums(m)[c:], mask_counts(m)[positions(m.schema, m.gaps)[c:]]
    _require(_whole(S1), names, "count of ones is not whole")
    # The rows with a 1 are among those that have the attribute, whose number is the last column.
    _require(_frechet(S1, s, shared, shared[:, -1:]), names, "count of ones is out of bounds")


def _check_cells(m: Moments) -> None:
    """Products of two B count rows; of the categories of one column a row has at most one."""
    p, c, names = m.size, m.schema.continuous, m.schema.names[m.schema.continuous :]
    place = positions(m.schema, m.gaps)
    N1, S1, s = mask_counts(m), mask_sums(m), m.s[c:]
    group = np.array(m.schema.groups)
    _require(second_moments(m)[c:] == s, names, "P_jj is not the count of ones")
    for first, last in packed.blocks(p - c):
        first, last = first + c, last + c
        cells, rows, columns = packed.upper(m.P, p, first, last), slice(first, last), slice(first, p)
        above = np.arange(first, p) >= np.arange(first, last)[:, None]
        ones, others = S1[rows][:, place[columns]], S1[columns][:, place[rows]].T
        own = names[first - c :]
        _require(_whole(cells), own, "cell count is not whole")
        fitting = _frechet(cells, ones, others, N1[place[rows, None], place[columns]])
        _require(fitting | ~above, own, "cell count is out of bounds")
        same = (group[rows, None] == group[columns]) & above
        same[np.arange(last - first), np.arange(last - first)] = False
        _require(~same | (cells == 0), own, "category is not exclusive")


def _check_masked_sums(m: Moments) -> None:
    """Sums over the rows that have another attribute agree with those over all rows."""
    c, names = m.schema.continuous, m.schema.names
    S1, Q1 = mask_sums(m), mask_squares(m)
    place = positions(m.schema, m.gaps)
    i, squares = np.arange(m.size), Q1[:, -1:]
    shared = mask_counts(m)[place]
    _require(S1[i, place] == m.s, names, "S is not s where the attribute is present")
    _require(Q1[i[:c], place[:c]] == squares[:, 0], names, "Q is not P_ii where the attribute is present")
    _require((Q1 >= 0) & _at_most(Q1, squares), names, "sum of squares is out of bounds")
    _require(_at_most(S1[:c] * S1[:c], shared[:c] * Q1), names, "S^2 is above N Q")
    if m.gaps or m.n == 0:
        N1 = mask_counts(m)
        for first, last in packed.blocks(m.size):
            together = N1[place[first:last, None], place[first:]] > 0
            none = packed.upper(m.P, m.size, first, last) == 0
            _require(together | none, names[first:], "P is not 0 where no row has both attributes")


def _check_conditional_squares(m: Moments) -> None:
    """0 <= G <= Q and P_ij^2 <= n1 G, with n1 the rows that have i and a 1 in j."""
    p, c, names = m.size, m.schema.continuous, m.schema.names
    place, squares, S1 = positions(m.schema, m.gaps), mask_squares(m), mask_sums(m)
    for first, last in _row_blocks(c, p - c):
        G, rows = m.G[first:last], slice(first, last)
        _require((G >= 0) & _at_most(G, squares[rows][:, place[c:]]), names[rows], "G is out of bounds")
        products = packed.columns(m.P, p, first, last, c)
        ones = S1[c:, place[rows]].T
        _require(_at_most(products * products, ones * G), names[rows], "P^2 is above n1 G")


def _check_powers(m: Moments) -> None:
    """T2^2 <= n T4, T3^2 <= T2 T4, and T4 <= T2^2."""
    c, names = m.schema.continuous, m.schema.names
    n, t2 = counts(m)[:c], second_moments(m)[:c]
    _require(m.t4 >= 0, names, "T4 is negative")
    _require(_at_most(t2 * t2, n * m.t4), names, "T2^2 is above n T4")
    _require(_at_most(m.t4, t2 * t2), names, "T4 is above T2^2")
    _require(_at_most(m.t3 * m.t3, t2 * m.t4), names, "T3^2 is above T2 T4")
    # Nothing that passes this overflows in any merge.
    _require(t2 <= n * (4.0 * LARGEST * LARGEST) * (1.0 + SLACK), names, "sum of squares is too large")


def _check_products(m: Moments) -> None:
    row = first_impossible(m, tolerance(m.size))
    if row is not None:
        name = [*_gap_names(m), "(all rows)", *m.schema.names][row]
        raise Refused(f"second moments of {name!r} are impossible with those before it")


def _require(ok: NDArray[np.bool_], names: Sequence[str], failure: str) -> None:
    """Refuse with the name of the first row of `ok` that is not all true."""
    if not ok.all():
        row = int(np.argmin(ok.reshape(len(ok), -1).all(axis=1)))
        raise Refused(f"{failure}: attribute {names[row]!r}")


def _row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """As `packed.blocks`, for a matrix; none if it is empty."""
    step = max(1, packed.BLOCK_ENTRIES // max(1, columns))
    return ((first, min(rows, first + step)) for first in range(0, rows if columns else 0, step))


def _gap_names(m: Moments) -> list[str]:
    """One attribute for each gap group."""
    return [m.schema.names[m.schema.groups.index(group)] for group in m.gaps]


def _whole(values: Array) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = (values == np.rint(values)) & (np.abs(values) <= MOST_ROWS)
    return whole


def _frechet(both: Array, one: Array, other: Array, total: Array | int) -> NDArray[np.bool_]:
    """How many rows can be in two sets of given sizes among `total`."""
    least = np.maximum(one + other - total, 0)
    return np.asarray((both >= least) & (both <= np.minimum(one, other)))


def _at_most(value: Array, bound: Array) -> NDArray[np.bool_]:
    return np.asarray(value <= bound + (SLACK * np.abs(bound) + FLOOR))
