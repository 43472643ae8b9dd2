"""Symmetric matrices as the row-major packed upper triangle: row i is entries (i, i), (i, i + 1), ... (i, p - 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics.moments import Array


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


def diagonal(p: int) -> NDArray[np.intp]:
    """(p,) packed positions of the entries (i, i)."""
    i = np.arange(p)
    return i * p - i * (i - 1) // 2


def entry(i: int, j: int, p: int) -> int:
    """Packed position of (i, j), either order."""
    low, high = min(i, j), max(i, j)
    return low * p - low * (low - 1) // 2 + high - low


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
