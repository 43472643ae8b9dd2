"""Statistics under more gap groups, or under a larger schema, still describe the same rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.statistics.derived import counts, pair_counts
from gramian.domain.statistics.gaps import expand, normalise
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.merge import add
from gramian.domain.statistics.moments import Moments
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import empty, widen

SEEDS = st.integers(0, 2**32 - 1)


def assert_same(a: Moments, b: Moments) -> None:
    assert (a.schema, a.n, a.gaps) == (b.schema, b.n, b.gaps)
    for name in SUMS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=50)
def test_expand_then_normalise_gives_the_same_bits(seed: int, nasty: Callable) -> None:
    """N, S and Q of a group without gaps follow from the rest, so listing it adds nothing and loses nothing."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    every = set(schema.groups)
    wide = expand(m, every)
    assert wide.gaps == tuple(sorted(every))
    np.testing.assert_array_equal(pair_counts(wide), pair_counts(m))
    assert_same(normalise(wide), m)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=50)
def test_widen_equals_accumulating_with_missing_columns(seed: int, nasty: Callable) -> None:
    """New attributes are missing in all rows, wherever the canonical order puts them."""
    x, schema = nasty(seed)
    p, c = schema.size, schema.continuous
    old = list(zip(schema.names, schema.types, schema.groups, strict=True))
    new = [("a first", "C", 100), ("d last", "C", 101), ("new", "B", 102), ("z$1", "B", 103), ("z$2", "B", 103)]
    both = sorted(old + new, key=lambda entry: (entry[1] != "C", entry[0].encode()))
    numbers = {group: k for k, group in enumerate(dict.fromkeys(group for _, _, group in both))}
    canonical = sorted(old, key=lambda entry: (entry[1] != "C", entry[0].encode()))
    order = [old.index(entry) for entry in canonical]
    first = {group: k for k, group in enumerate(dict.fromkeys(group for _, _, group in canonical))}
    small = Schema(tuple(name for name, _, _ in canonical), c, tuple(first[group] for _, _, group in canonical))
    large = Schema(tuple(name for name, _, _ in both), c + 2, tuple(numbers[group] for _, _, group in both))
    wide_rows = np.full((len(x), p + 5), np.nan)
    for k, entry in enumerate(both):
        if entry in old:
            wide_rows[:, k] = x[:, old.index(entry)]
    widened = widen(accumulate(x[:, order], small), large)
    wanted = accumulate(wide_rows, large)
    assert widened.gaps == wanted.gaps
    for name in SUMS:
        np.testing.assert_allclose(getattr(widened, name), getattr(wanted, name), rtol=1e-12, atol=1e-12)
    assert widened.local is not None
    assert wanted.local is not None
    np.testing.assert_array_equal(widened.local.low, wanted.local.low)


def test_widen_by_a_category_of_a_known_column_has_zeros_where_it_is_present() -> None:
    """Rows learned before a category was seen do have the column: they have 0 there, and no gap."""
    small = Schema(("t$a",), 0, (0,))
    large = Schema(("t$a", "t$b"), 0, (0, 0))
    before = widen(accumulate(np.array([[1.0], [0.0], [np.nan]]), small), large)
    assert_same(before, accumulate(np.array([[1.0, 0.0], [0.0, 0.0], [np.nan, np.nan]]), large))
    after = accumulate(np.array([[0.0, 1.0]]), large)
    total = add(before, after)
    assert counts(total).tolist() == [3, 3]
    assert total.local is not None
    assert (total.local.low.tolist(), total.local.high.tolist()) == ([0, 0], [1, 1])


def test_widen_of_empty_statistics_stays_empty() -> None:
    """Without rows nothing is missing."""
    large = Schema(("a", "b"), 1, (0, 1))
    assert_same(widen(empty(Schema(("a",), 1, (0,))), large), empty(large))


@pytest.mark.parametrize(
    ("names", "continuous", "groups", "text"),
    [
        (("a",), 1, (0,), "'t.a' of type B is not in"),
        (("a", "t$a", "t$b"), 0, (0, 1, 1), "'a' of type C is not in"),
        (("a", "t$a", "t$b"), 1, (0, 1, 2), "otherwise"),
        (("a", "t$a", "t$b"), 1, (0, 0, 0), "otherwise"),
        (("a", "b", "t$a", "t$b"), 2, (0, 0, 1, 1), "'b' cannot join"),
    ],
)
def test_widen_to_a_schema_that_contradicts_is_refused(
    names: tuple[str, ...], continuous: int, groups: tuple[int, ...], text: str
) -> None:
    """Attributes cannot vanish, change type, or move between mask groups."""
    m = empty(Schema(("a", "t$a", "t$b"), 1, (0, 1, 1)))
    with pytest.raises(ValueError, match=text):
        widen(m, Schema(names, continuous, groups))
