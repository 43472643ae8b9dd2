"""Adding by blocks of rows gives the bits of adding at once, and reads nothing until asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.statistics import merge, packed, rows
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.digest import content_digest
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.rows import collected, rows_of
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.snapshot import decode, encode

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def tiny_blocks() -> Iterator[None]:
    """A row or two at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "BLOCK_ENTRIES", 4)
        yield


def published(x: Array, schema: Schema) -> Moments:
    m = accumulate(x, schema)
    return clamp(merge.rebase(m, standard_origin(m)))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=150)
def test_add_by_blocks_gives_the_bits_of_adding_at_once(seed: int, nasty: Callable) -> None:
    """Any split of nasty rows, so with gaps, with moved origins, with peers without rows, through several levels."""
    x, schema = nasty(seed, most_rows=120)
    parts = [published(part, schema) for part in np.array_split(x, 5)]
    whole = reduce(merge.add, parts)
    left, right = parts[:2], parts[2:]
    by_blocks = reduce(rows.add, map(rows_of, parts))
    assert content_digest(collected(by_blocks)) == content_digest(whole)
    branched = rows.add(reduce(rows.add, map(rows_of, left)), reduce(rows.add, map(rows_of, right)))
    wanted = merge.add(reduce(merge.add, left), reduce(merge.add, right))
    assert decode(encode(branched)) is not None
    assert bytes(encode(branched)) == bytes(encode(wanted))


def test_add_by_blocks_leaves_its_parts_unchanged() -> None:
    """Blocks are the reader's own: the statistics that they come from stay what they are."""
    schema = Schema(("a", "b"), 1, (0, 1))
    rng = np.random.default_rng(0)
    a, b = (published(np.column_stack((rng.normal(k, 1, 9), np.arange(9) % 2)), schema) for k in (0.0, 1e6))
    before = content_digest(a), content_digest(b)
    collected(rows.add(rows_of(a), rows_of(b)))
    assert (content_digest(a), content_digest(b)) == before


def test_add_by_blocks_of_different_schemas_is_refused() -> None:
    """As adding at once does."""
    a = published(np.ones((9, 1)), Schema(("a",), 1, (0,)))
    b = published(np.ones((9, 1)), Schema(("b",), 1, (0,)))
    with pytest.raises(ValueError, match="different schemas"):
        rows.add(rows_of(a), rows_of(b))
