"""The arithmetic of one federated round and nothing else: no store, no network, no signatures, one process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gramian.domain.models import mlr
from gramian.domain.models.linear import LinearModel
from gramian.domain.statistics import merge, snapshot
from gramian.domain.statistics.checks import verify
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.trie import fold


class Round:
    """What all nodes of a round compute, one after the other."""

    def __init__(self, schema: Schema, rows: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> None:
        """`rows`: per node what it had learned before, and what it learned now."""
        self._stored = [
            [snapshot.encode(accumulate(part, schema), local=True) for part in (before, now)] for before, now in rows
        ]

    def run(self) -> list[LinearModel]:
        published = {f"{place:032x}": _published(*parts) for place, parts in enumerate(self._stored)}
        return [_federated(published, own) for own in published]


def _published(base: bytes, delta: bytes) -> bytes:
    """Fold what was learned, and make of it what others may see."""
    total = merge.add(snapshot.decode(base, local=True), snapshot.decode(delta, local=True))
    local = snapshot.decode(snapshot.encode(total, local=True), local=True)
    shown = clamp(merge.rebase(local, standard_origin(local)))
    content_digest(shown)
    return snapshot.encode(shown)


def _federated(published: dict[str, bytes], own: str) -> LinearModel:
    """Check what the others published, merge, and fit the last attribute on all others."""
    for peer, data in published.items():
        if peer != own:
            theirs = snapshot.decode(data)
            content_digest(theirs)
            verify(theirs)
    total = fold({peer: snapshot.decode(data) for peer, data in published.items()})
    content_digest(total)
    return _fitted(snapshot.decode(snapshot.encode(total)))


def _fitted(total: Moments) -> LinearModel:
    return mlr.fit(total, range(total.size - 1), total.size - 1)
