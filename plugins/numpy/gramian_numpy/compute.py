"""The kernel on numpy arrays."""

from __future__ import annotations

from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema


class NumpyCompute:
    """`gramian.ports.Compute` on this machine's processor."""

    def accumulate(self, rows: Array, schema: Schema) -> Moments:
        return accumulate(rows, schema)
