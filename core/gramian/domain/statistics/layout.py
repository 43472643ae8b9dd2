"""The published arrays: their order in digests and files, and their shapes."""

from __future__ import annotations

from gramian.domain.statistics import packed
from gramian.domain.statistics.schema import Schema

SUMS = ("origin", "s", "t3", "t4", "P", "G", "N", "S", "Q")
"""In the order of their bytes in a digest."""
FLOOR = 1e-290
"""Sums below this are near the denormal range and have lost digits: no check looks closer."""
MOST_ROWS = 2**53
"""Up to here float64 counts exactly."""
LARGEST = 1e72
"""Largest magnitude of values and origins: sums of fourth powers of the difference of two stay finite for
MOST_ROWS rows, so that no merge ever overflows."""


def shapes(schema: Schema, q: int) -> dict[str, tuple[int, ...]]:
    """Shape of each of SUMS with q gap groups."""
    p, c = schema.size, schema.continuous
    return {
        "origin": (p,),
        "s": (p,),
        "t3": (c,),
        "t4": (c,),
        "P": (packed.length(p),),
        "G": (c, p - c),
        "N": (packed.length(q),),
        "S": (p, q),
        "Q": (c, q),
    }
