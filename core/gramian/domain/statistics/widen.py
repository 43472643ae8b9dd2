"""Statistics without rows, and the same rows under a larger schema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gramian.domain.statistics import packed
from gramian.domain.statistics.gaps import mask_counts, mask_squares, mask_sums, normalise, positions
from gramian.domain.statistics.moments import Array, LocalMoments, Moments
from gramian.domain.statistics.schema import Schema


def empty(schema: Schema) -> Moments:
    """The statistics of no rows, which add to any others without a trace."""
    p, c = schema.size, schema.continuous
    return Moments(
        schema=schema,
        n=0,
        origin=np.zeros(p),
        s=np.zeros(p),
        t3=np.zeros(c),
        t4=np.zeros(c),
        P=np.zeros(packed.length(p)),
        G=np.zeros((c, p - c)),
        gaps=(),
        N=np.zeros(0),
        S=np.zeros((p, 0)),
        Q=np.zeros((c, 0)),
        local=LocalMoments(a=np.zeros(p), low=np.full(p, np.inf), high=np.full(p, -np.inf)),
    )


def widen(m: Moments, schema: Schema) -> Moments:
    """The same rows under a schema with more attributes.

    New attributes are missing in every row; a new category of a known column is 0 where that column is present,
    since attributes of one mask group are missing together. Raises ValueError unless all attributes of `m` are
    in `schema` with the same types and grouping.
    """
    if schema == m.schema:
        return m
    kept = _places(m.schema, schema)
    group_of = _known_groups(m.schema, schema, kept)
    old_masks = positions(m.schema, m.gaps)
    # One mask per group of the new schema: a known group's own, or none at all for a new group.
    source = np.full(max(schema.groups, default=-1) + 1, -1, dtype=np.intp)
    for group, attribute in group_of.items():
        source[group] = old_masks[attribute]
    c, old_c = schema.continuous, m.schema.continuous
    P = np.zeros((schema.size, schema.size))
    P[kept[:, None], kept] = packed.unpack(m.P, m.size)
    G = np.zeros((c, schema.size - c))
    G[kept[:old_c, None], kept[old_c:] - c] = m.G
    S = np.zeros((schema.size, len(source)))
    S[kept] = _select(mask_sums(m), source)
    Q = np.zeros((c, len(source)))
    Q[kept[:old_c]] = _select(mask_squares(m), source)
    N = _select(_select(mask_counts(m), source).T, source)
    return normalise(
        Moments(
            schema=schema,
            n=m.n,
            origin=_spread(m.origin, kept, schema.size),
            s=_spread(m.s, kept, schema.size),
            t3=_spread(m.t3, kept[:old_c], c),
            t4=_spread(m.t4, kept[:old_c], c),
            P=packed.pack(P),
            G=G,
            gaps=tuple(range(len(source))),
            N=packed.pack(N),
            S=S,
            Q=Q,
            local=_widen_local(m, schema, kept, group_of),
        )
    )


def _places(old: Schema, new: Schema) -> NDArray[np.intp]:
    """(p,) position in `new` of each attribute of `old`."""
    place = {pair: i for i, pair in enumerate(zip(new.names, new.types, strict=True))}
    kept = []
    for pair in zip(old.names, old.types, strict=True):
        if pair not in place:
            raise ValueError(f"attribute {pair[0]!r} of type {pair[1]} is not in the larger schema")
        kept.append(place[pair])
    return np.array(kept, dtype=np.intp)


def _known_groups(old: Schema, new: Schema, kept: Sequence[int] | NDArray[np.intp]) -> dict[int, int]:
    """One attribute of `old` for each mask group of `new` that has any."""
    pairs = {(old.groups[i], new.groups[int(place)]): i for i, place in enumerate(kept)}
    group_of = {group: i for (_, group), i in pairs.items()}
    if len({group for group, _ in pairs}) != len(pairs) or len(group_of) != len(pairs):
        raise ValueError("the larger schema groups known attributes otherwise")
    known = {int(place) for place in kept}
    for i, group in enumerate(new.groups):
        if i not in known and group in group_of and i < new.continuous:
            raise ValueError(f"attribute {new.names[i]!r} cannot join a known group")
    return group_of


def _select(values: Array, source: NDArray[np.intp]) -> Array:
    """Columns of `values` by number; zeros for -1."""
    return np.where(source >= 0, values.take(np.maximum(source, 0), axis=1), 0.0)


def _spread(values: Array, kept: NDArray[np.intp], size: int, fill: float = 0.0) -> Array:
    spread = np.full(size, fill)
    spread[kept] = values
    return spread


def _widen_local(m: Moments, schema: Schema, kept: NDArray[np.intp], group_of: dict[int, int]) -> LocalMoments | None:
    if m.local is None:
        return None
    low = _spread(m.local.low, kept, schema.size, np.inf)
    high = _spread(m.local.high, kept, schema.size, -np.inf)
    known = {int(place) for place in kept}
    for i, group in enumerate(schema.groups):
        # A new category of a known column is 0 in the rows that have the column: rows that have its sibling.
        if i not in known and group in group_of and np.isfinite(m.local.low[group_of[group]]):
            low[i] = high[i] = 0.0
    return LocalMoments(a=_spread(m.local.a, kept, schema.size), low=low, high=high)
