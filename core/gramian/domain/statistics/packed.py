"""Symmetric matrices as the row-major packed upper triangle: row i is entries (i, i), (i, i + 1), ... (i, p - 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics.moments import Array

BLOCK_ENTRIES = 2**18
"""Entries of a block of rows (2 MiB): few calls per entry, and temporaries that stay in the cache."""
FEW_ENTRIES = 2**16
"""Up to here picking entries one by one beats a call for each row."""


def length(p: int) -> int:
    """Number of packed entries of a (p, p) matrix."""
    return p * (p + 1) // 2


def rows(p: int) -> Iterator[tuple[int, slice]]:
    """Each row index i with the packed slice that holds its columns i to p - 1."""
    start = 0
    for i in range(p):
        stop = start + p - i
        yield i, slice(start, stop)
        start = stop


def span(first: int, last: int, p: int) -> slice:
    """The packed slice that holds rows `first` to `last` - 1."""
    return slice(_start(first, p), _start(last, p))


def diagonal(p: int) -> NDArray[np.intp]:
    """(p,) packed positions of the entries (i, i)."""
    i = np.arange(p)
    return i * p - i * (i - 1) // 2


def entry(i: int, j: int, p: int) -> int:
    """Packed position of (i, j), either order."""
    low, high = min(i, j), max(i, j)
    return _start(low, p) + high - low


def square(packed: Array, members: Sequence[int], p: int) -> Array:
    """(k, k) entries of some rows and the same columns."""
    low, high = np.minimum.outer(members, members), np.maximum.outer(members, members)
    block: Array = packed[low * p - low * (low - 1) // 2 + high - low]
    return block


def blocks(p: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of rows (first, last + 1) of at most BLOCK_ENTRIES, or of one row."""
    first = 0
    while first < p:
        last = min(p, first + max(1, BLOCK_ENTRIES // (p - first)))
        yield first, last
        first = last


def columns(packed: Array, p: int, first: int, last: int, column: int) -> Array:
    """(last - first, p - column) entries from `column` on of some rows, none of which begins right of it."""
    result = np.empty((last - first, p - column))
    for k, i in enumerate(range(first, last)):
        stop = _start(i + 1, p)
        result[k] = packed[stop - (p - column) : stop]
    return result


def upper(packed: Array, p: int, first: int, last: int) -> Array:
    """(last - first, p - first) entries from column `first` on of some rows; 0 below the diagonal."""
    result = np.zeros((last - first, p - first))
    for k, i in enumerate(range(first, last)):
        result[k, k:] = packed[span(i, i + 1, p)]
    return result


def add_upper(rows: Array, block: Array) -> None:
    """Add in place to packed rows a (r, p - first) block of the columns from their first row on."""
    count, width = block.shape
    if count * width < FEW_ENTRIES:
        rows[: count * width - count * (count - 1) // 2] += block[_is_upper(count, width)]
        return
    start = 0
    for k in range(count):
        stop = start + width - k
        rows[start:stop] += block[k, k:]
        start = stop


@lru_cache(maxsize=4)
def _is_upper(count: int, width: int) -> NDArray[np.bool_]:
    return np.arange(width) >= np.arange(count)[:, None]


def row(place: int, p: int) -> int:
    """Row of the packed entry at `place`."""
    return int(np.searchsorted(diagonal(p), place, side="right")) - 1


def pack(full: NDArray[Any]) -> Array:
    """(p, p) -> packed upper triangle; the lower one is not read."""
    p = full.shape[0]
    packed = np.empty(length(p))
    for i, row in rows(p):
        packed[row] = full[i, i:]
    return packed


def unpack(packed: Array, p: int) -> Array:
    """Packed -> full symmetric (p, p)."""
    full = np.empty((p, p))
    for i, row in rows(p):
        full[i, i:] = packed[row]
        full[i:, i] = packed[row]
    return full


def _start(i: int, p: int) -> int:
    return i * p - i * (i - 1) // 2
