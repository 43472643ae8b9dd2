"""Names for the content of statistics (statistics.md, section 3)."""

from __future__ import annotations

import hashlib

import numpy as np

from gramian.domain.canonical import canonical_json, join
from gramian.domain.statistics import packed
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.moments import Moments

TAG = "gramian/statistics/1"


def content_digest(m: Moments) -> str:
    """SHA-256 (hex) of what peers see: tag, schema and gap groups, n, then SUMS as little-endian float64 without
    negative zeros. Equal for equal numbers, whatever file or machine they come from."""
    shape = canonical_json({**m.schema.to_json(), "gaps": list(m.gaps)})
    sha = hashlib.sha256(join(TAG, shape))
    sha.update(m.n.to_bytes(8, "little"))
    for name in SUMS:
        values = np.ascontiguousarray(getattr(m, name)).reshape(-1)
        for start in range(0, len(values), packed.BLOCK_ENTRIES):
            block = values[start : start + packed.BLOCK_ENTRIES] + 0.0
            sha.update(block.astype("<f8", copy=False).data)
    return sha.hexdigest()


def denormals_work() -> bool:
    """Whether this process keeps denormal numbers. Libraries built with -ffast-math switch them off for the whole
    process, and then equal inputs no longer give equal bits."""
    return bool((np.full(1, 5e-324) * np.ones(1))[0] != 0.0)
