"""The processor is this machine's, so that everything works as it stands: put arrays of yours in its place."""

from __future__ import annotations

from functools import reduce

from gramian.domain.statistics.kernel import accumulate, batch_origin
from gramian.domain.statistics.merge import add
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema


class AcmeCompute:
    """`gramian.ports.Compute`. The kernel works on arrays of any library that has the array API, and gives its result
    in host memory: `accumulate(acme.asarray(rows), schema)` is all that a GPU needs."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows

    def accumulate(self, rows: Array, schema: Schema) -> Moments:
        """In parts about one origin, the rule's for all rows. Raises ValueError naming a column."""
        if len(rows) <= self._max_rows:
            return accumulate(rows, schema)
        origin = batch_origin(rows, schema)
        starts = range(0, len(rows), self._max_rows)
        parts = [accumulate(rows[start : start + self._max_rows], schema, origin) for start in starts]
        return reduce(add, parts)
