"""From rows to sufficient statistics (statistics.md, section 2), in the array library of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import counts
from gramian.domain.statistics.gaps import normalise, one_hot_groups, positions, second_moments
from gramian.domain.statistics.layout import LARGEST
from gramian.domain.statistics.moments import Array, LocalMoments, Moments
from gramian.domain.statistics.origin import rounded
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import empty

Device: TypeAlias = Any
"""An array of any library with the array API; its type is known only at run time."""

BLOCK_ROWS = 1024
"""Rows per matrix product: long enough for BLAS, short enough that rounding errors do not pile up."""
STRIP_ROWS = 256
"""Rows per step of the element-wise sums, so that a few hundred columns and their powers stay in the L2 cache."""
FOLD_ROWS = 8
"""Rows that a reduction takes as one long one: numpy's inner loops are slow on short rows."""
SAMPLE_ROWS = 256
"""Rows, evenly spread over the batch, that the origin rule estimates the standard deviation from."""


def accumulate(x: Device, schema: Schema, origin: Array | None = None, *, xp: Any = None) -> Moments:
    """Statistics of the rows of `x` (n, p), float64 of any array API library, NaN where a value is missing.

    `xp`: the namespace, for arrays that do not name one themselves. `origin` (p,), 0 for B, replaces the rule's.
    The result is in host memory and has its local arrays. Raises ValueError, naming the column, for values beyond
    LARGEST, whose powers would overflow, for B values other than 0 and 1, and for columns of one mask group that are
    not missing together or not exclusive.
    """
    xp = _namespace(x, schema, xp)
    if x.shape[0] == 0:
        return empty(schema)
    with np.errstate(over="ignore", invalid="ignore"):
        totals = to_host(xp.sum(x, axis=0))
        gaps = _gap_groups(totals, schema)
        origin = _origin(xp, x, schema, totals) if origin is None else _checked_origin(origin, schema)
        sums = _Sums(xp, x, schema, gaps, origin)
        for block in _slices(x.shape[0], BLOCK_ROWS):
            sums.add(x[block, :])
    return _moments(sums, x.shape[0], schema, gaps, origin)


def batch_origin(x: Device, schema: Schema) -> Array:
    """(p,) origin of a batch (n, p): its means, rounded as `origin.rounded` says by the standard deviations of
    at most SAMPLE_ROWS evenly spread rows; the value of a constant column; 0 for B and for columns without values.
    """
    xp = _namespace(x, schema)
    if x.shape[0] == 0:
        return np.zeros(schema.size)
    with np.errstate(over="ignore", invalid="ignore"):
        return _origin(xp, x, schema, to_host(xp.sum(x, axis=0)))


def to_host(array: Device) -> NDArray[Any]:
    """Copy to host memory unless it is there: the one place where values leave their device."""
    if isinstance(array, np.ndarray):
        return array
    # Libraries whose arrays have `get` (CuPy) may not export to another device than their own.
    host: NDArray[Any] = array.get() if hasattr(array, "get") else np.from_dlpack(array, device="cpu")
    return host


def _namespace(x: Device, schema: Schema, given: Any = None) -> Any:
    xp = x.__array_namespace__() if given is None else given
    if x.ndim != 2 or x.shape[1] != schema.size:
        raise ValueError(f"rows have {schema.size} columns, not shape {tuple(x.shape)}")
    if x.dtype != xp.float64:
        raise ValueError(f"rows are float64, not {x.dtype}")
    return xp


def _checked_origin(origin: Array, schema: Schema) -> Array:
    if origin.shape != (schema.size,) or not (np.abs(origin) <= LARGEST).all() or origin[schema.continuous :].any():
        raise ValueError("an origin is one finite number per attribute, and 0 for type B")
    return origin


def _gap_groups(totals: Array, schema: Schema) -> tuple[int, ...]:
    """Mask groups with a missing value, from column sums: NaN goes through a sum, so this costs no mask."""
    return tuple(sorted({schema.groups[i] for i in np.flatnonzero(np.isnan(totals))}))


def _origin(xp: Any, x: Device, schema: Schema, totals: Array) -> Array:
    n, c = x.shape[0], schema.continuous
    origin = np.zeros(schema.size)
    if c == 0:
        return origin
    mean = totals[:c] / n
    if np.isnan(mean).any():
        mean = _present_means(xp, x, c)
    sample = to_host(x[:: -(-n // SAMPLE_ROWS), :c])
    missing = np.isnan(sample)
    low = np.where(missing, np.inf, sample).min(axis=0)
    high = np.where(missing, -np.inf, sample).max(axis=0)
    deviation = np.where(missing, 0.0, sample - mean)
    variance = (deviation * deviation).sum(axis=0) / np.maximum((~missing).sum(axis=0), 1)
    rule = np.where(low == high, low, rounded(mean, np.where(low < high, variance, 0.0)))
    # Means beyond all bounds are refused with their values later on.
    origin[:c] = np.where(np.abs(rule) <= LARGEST, rule, 0.0)
    return origin


def _present_means(xp: Any, x: Device, c: int) -> Array:
    """(c,) means of the present values of the first c columns; 0 where there is none."""
    total, count = np.zeros(c), np.zeros(c)
    for rows in _slices(x.shape[0], BLOCK_ROWS):
        block = x[rows, :c]
        missing = xp.isnan(block)
        total += to_host(xp.sum(xp.where(missing, xp.zeros_like(block), block), axis=0))
        count += block.shape[0] - to_host(xp.sum(xp.astype(missing, xp.float64), axis=0))
    return total / np.maximum(count, 1)


class _Masks:
    """The columns whose mask groups have gaps: presence masks, and extremes of the present values."""

    def __init__(self, xp: Any, x: Device, schema: Schema, gaps: tuple[int, ...]) -> None:
        self._xp = xp
        self.columns = [i for i, group in enumerate(schema.groups) if group in set(gaps)]
        first = {schema.groups[i]: k for k, i in reversed(list(enumerate(self.columns)))}
        self._columns = _index(xp, x, self.columns)
        # Places among `columns`: for each column the first of its group, and for each group its first.
        self._leader = _index(xp, x, [first[schema.groups[i]] for i in self.columns])
        self._leaders = _index(xp, x, [first[group] for group in gaps])
        self._infinity = _full(xp, x, (), np.inf)
        self.low = _full(xp, x, len(self.columns), np.inf)
        self.high = _full(xp, x, len(self.columns), -np.inf)
        self.torn = xp.zeros(len(self.columns), dtype=xp.bool, device=x.device)

    def of(self, block: Device) -> Device:
        """(rows, q) 1 where the group is present, 0 where it is missing."""
        xp = self._xp
        values = xp.take(block, self._columns, axis=1)
        missing = xp.isnan(values)
        self.low = xp.minimum(self.low, xp.min(xp.where(missing, self._infinity, values), axis=0))
        self.high = xp.maximum(self.high, xp.max(xp.where(missing, -self._infinity, values), axis=0))
        self.torn |= xp.any(missing != xp.take(missing, self._leader, axis=1), axis=0)
        return xp.astype(~xp.take(missing, self._leaders, axis=1), xp.float64)


class _Sums:
    """Running sums on the device of the rows, named as in `Moments`.

    Element-wise steps run over all columns, though powers and extremes of B are of no use: on whole rows, which lie one
    after the other in memory, they take half the time that they take on a part of the columns.
    """

    def __init__(self, xp: Any, x: Device, schema: Schema, gaps: tuple[int, ...], origin: Array) -> None:
        p, c, q = schema.size, schema.continuous, len(gaps)
        self.xp = xp
        self._c, self._has_binary = c, p > c
        self._origin = xp.asarray(origin, dtype=xp.float64, device=x.device)
        self._zero = _full(xp, x, ())
        self._ones = _full(xp, x, STRIP_ROWS, 1.0)
        self.masks = _Masks(xp, x, schema, gaps) if gaps else None
        self.s = _full(xp, x, p)
        self.t3 = _full(xp, x, p)
        self.t4 = _full(xp, x, p)
        self.P = _full(xp, x, (p, p))
        self.N = _full(xp, x, (q, q))
        # Transposed, since BLAS is a quarter faster with the small matrix first.
        self.G_t = _full(xp, x, (p - c, c))
        self.S_t = _full(xp, x, (q, p))
        self.Q_t = _full(xp, x, (q, c))
        self.low = _full(xp, x, p, np.inf)
        self.high = _full(xp, x, p, -np.inf)
        self.not_binary = xp.zeros(p, dtype=xp.bool, device=x.device)

    def add(self, block: Device) -> None:
        """Add up to BLOCK_ROWS rows."""
        xp = self.xp
        u = block - self._origin
        mask = None
        if self.masks is not None:
            mask = self.masks.of(block)
            u = xp.where(xp.isnan(u), self._zero, u)
            self.N += xp.matmul(xp.matrix_transpose(mask), mask)
            self.S_t += xp.matmul(xp.matrix_transpose(mask), u)
        # One buffer on both sides: numpy then calls syrk, which does half the work of gemm.
        self.P += xp.matmul(xp.matrix_transpose(u), u)
        for strip in _slices(block.shape[0], STRIP_ROWS):
            self._add_strip(block[strip, :], u[strip, :], None if mask is None else mask[strip, :])

    def _add_strip(self, values: Device, u: Device, mask: Device | None) -> None:
        """Overwrites `u`."""
        xp, c = self.xp, self._c
        # Not by BLAS, whose bits depend on the columns beside: means are the same whatever else is learned.
        self.s += _down(xp, xp.sum, u)
        w = u * u
        if self._has_binary:
            # Of all finite numbers only 0 and 1 are their own squares.
            self.not_binary |= _down(xp, xp.any, w != u)
        if c == 0:
            return
        self.low = xp.minimum(self.low, _down(xp, xp.min, values))
        self.high = xp.maximum(self.high, _down(xp, xp.max, values))
        if self._has_binary:
            self.G_t += xp.matmul(xp.matrix_transpose(u[:, c:]), w[:, :c])
        if mask is not None:
            self.Q_t += xp.matmul(xp.matrix_transpose(mask), w[:, :c])
        u *= w
        # Half the time of `sum`.
        ones = self._ones[: u.shape[0]]
        self.t3 += xp.matmul(ones, u)
        w *= w
        self.t4 += xp.matmul(ones, w)


def _down(xp: Any, reduce: Callable[..., Device], rows: Device) -> Device:
    """(p,) `reduce` over the rows (n, p), in any order."""
    n, p = rows.shape
    if n % FOLD_ROWS == 0:
        rows = xp.reshape(reduce(xp.reshape(rows, (n // FOLD_ROWS, FOLD_ROWS * p)), axis=0), (FOLD_ROWS, p))
    return reduce(rows, axis=0)


def _slices(n: int, step: int) -> Iterator[slice]:
    """Consecutive slices of n rows. They end in bounds: the array API leaves other ends open."""
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _full(xp: Any, x: Device, shape: int | tuple[int, ...], value: float = 0.0) -> Device:
    return xp.full(shape, value, dtype=xp.float64, device=x.device)


def _index(xp: Any, x: Device, values: list[int]) -> Device:
    return xp.asarray(values, dtype=xp.int64, device=x.device)


def _moments(sums: _Sums, n: int, schema: Schema, gaps: tuple[int, ...], origin: Array) -> Moments:
    P = _packed(sums.xp, sums.P)
    _check(sums, schema, P)
    q = len(gaps)
    s = to_host(sums.s)
    G, S, Q = (np.ascontiguousarray(to_host(part).T) for part in (sums.G_t, sums.S_t, sums.Q_t))
    # Known twice, by sum and by BLAS: keep one set of bits.
    place = positions(schema, gaps)
    masked = np.flatnonzero(place < q)
    S[masked, place[masked]] = s[masked]
    squares = P[packed.diagonal(schema.size)]
    masked = masked[masked < schema.continuous]
    Q[masked, place[masked]] = squares[masked]
    m = Moments(
        schema=schema,
        n=n,
        origin=origin,
        s=s,
        t3=to_host(sums.t3)[: schema.continuous],
        t4=to_host(sums.t4)[: schema.continuous],
        P=P,
        G=G,
        gaps=gaps,
        N=_packed(sums.xp, sums.N),
        S=S,
        Q=Q,
    )
    return normalise(replace(m, local=_local(sums, m)))


def _packed(xp: Any, full: Device) -> Array:
    """(p, p) -> the packed upper triangle on the host; packed where it is, so that only one half moves."""
    if isinstance(full, np.ndarray):
        return packed.pack(full)
    places = xp.arange(full.shape[0], device=full.device)
    return to_host(full[places[:, None] <= places[None, :]])


def _local(sums: _Sums, m: Moments) -> LocalMoments:
    """A and the extremes; those of B columns follow from the counts of ones."""
    c = m.schema.continuous
    low, high = _extremes(sums)
    ones, present = m.s[c:], counts(m)[c:]
    low[c:] = np.where(present == 0, np.inf, ones == present)
    high[c:] = np.where(present == 0, -np.inf, ones > 0)
    return LocalMoments(a=second_moments(m), low=low, high=high)


def _extremes(sums: _Sums) -> tuple[Array, Array]:
    """(p,) least and largest values of C; the entries of B mean nothing."""
    low, high = np.array(to_host(sums.low)), np.array(to_host(sums.high))
    if sums.masks is not None:
        low[sums.masks.columns] = to_host(sums.masks.low)
        high[sums.masks.columns] = to_host(sums.masks.high)
    return low, high


def _check(sums: _Sums, schema: Schema, P: Array) -> None:
    c = schema.continuous
    low, high = _extremes(sums)
    # A column without values has a low of +inf. NaN fails every comparison, so ask for what is right.
    sound = np.isfinite(to_host(sums.s)) & ((low > high) | ((low >= -LARGEST) & (high <= LARGEST)))
    _refuse(schema.names, ~sound, f"has values beyond {LARGEST:g}")
    _refuse(schema.names[c:], to_host(sums.not_binary)[c:], "is of type B and has values other than 0 and 1")
    if sums.masks is not None:
        masked = [schema.names[i] for i in sums.masks.columns]
        _refuse(masked, to_host(sums.masks.torn), "is missing in other rows than the rest of its category")
    for members in one_hot_groups(schema):
        block = packed.square(P, members, schema.size)
        overlap = (block != np.diag(block.diagonal())).any(axis=0)
        _refuse([schema.names[i] for i in members], overlap, "is 1 in rows where another of its category is 1")


def _refuse(names: Sequence[str], bad: NDArray[np.bool_], reason: str) -> None:
    if bad.any():
        raise ValueError(f"column {names[int(bad.argmax())]!r} {reason}")
