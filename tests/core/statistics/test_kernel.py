"""The batch kernel against exact arithmetic, under numpy and array_api_strict."""

from __future__ import annotations

from collections.abc import Callable

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.statistics.gaps import normalise
from gramian.domain.statistics.kernel import BLOCK_ROWS, accumulate, batch_origin
from gramian.domain.statistics.layout import LARGEST, SUMS, shapes
from gramian.domain.statistics.schema import Schema

SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_accumulate_of_nasty_rows_equals_exact_sums(seed: int, nasty: Callable, assert_moments: Callable) -> None:
    """Every sum is within rounding of its terms of the exact one."""
    x, schema = nasty(seed)
    assert_moments(accumulate(x, schema), x)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_accumulate_under_array_api_strict_agrees_with_numpy(seed: int, nasty: Callable) -> None:
    """Nothing but the array API standard is used, and the result is on the host all the same."""
    x, schema = nasty(seed)
    strict, plain = accumulate(array_api_strict.asarray(x), schema), accumulate(x, schema)
    assert strict.gaps == plain.gaps
    for name in SUMS:
        assert type(getattr(strict, name)) is np.ndarray
        np.testing.assert_allclose(getattr(strict, name), getattr(plain, name), rtol=1e-12, atol=1e-12)
    assert strict.local is not None
    assert plain.local is not None
    np.testing.assert_array_equal(strict.local.low, plain.local.low)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_accumulate_shapes_and_extremes_are_those_of_the_rows(seed: int, nasty: Callable) -> None:
    """Shapes follow from schema and gaps; low and high are row values; the normal form lists real gaps only."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    for name, shape in shapes(schema, len(m.gaps)).items():
        assert getattr(m, name).shape == shape
        assert getattr(m, name).dtype == np.float64
    missing = np.isnan(x)
    assert m.gaps == tuple(sorted({g for i, g in enumerate(schema.groups) if missing[:, i].any()}))
    assert normalise(m) is m
    assert m.local is not None
    low = np.where(missing, np.inf, x).min(axis=0, initial=np.inf)
    high = np.where(missing, -np.inf, x).max(axis=0, initial=-np.inf)
    np.testing.assert_array_equal(m.local.low, low)
    np.testing.assert_array_equal(m.local.high, high)


@pytest.mark.parametrize("n", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS + 7])
def test_accumulate_over_block_borders_counts_each_row_once(n: int) -> None:
    """Blocks and strips neither drop nor repeat rows, with gaps in the last block only."""
    rng = np.random.default_rng(n)
    x = np.column_stack((rng.integers(-5, 6, n), rng.integers(-5, 6, n), rng.integers(0, 2, n))).astype(float)
    x[-1, 0] = np.nan
    m = accumulate(x, Schema(("a", "b", "c"), 2, (0, 1, 2)), origin=np.zeros(3))
    kept = x[:-1]
    assert m.n == n
    assert m.N.tolist() == [n - 1]
    assert m.s.tolist() == [kept[:, 0].sum(), x[:, 1].sum(), x[:, 2].sum()]
    assert m.P[1] == (kept[:, 0] * kept[:, 1]).sum()
    assert m.t4[0] == (kept[:, 0] ** 4).sum()
    assert m.G[1, 0] == (x[:, 1] ** 2 * x[:, 2]).sum()
    assert m.Q[1, 0] == (kept[:, 1] ** 2).sum()


def test_accumulate_of_fortran_and_strided_rows_equals_that_of_plain_rows() -> None:
    """Memory order is no part of the meaning."""
    x = np.random.default_rng(1).normal(5, 2, (700, 6))
    schema = Schema(tuple("abcdef"), 6, tuple(range(6)))
    plain = accumulate(x, schema)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x[::-1][::-1]):
        np.testing.assert_allclose(accumulate(other, schema).P, plain.P, rtol=1e-12)


def test_accumulate_of_no_rows_is_empty_and_valid() -> None:
    """n = 0 has all arrays, all zero."""
    schema = Schema(("a", "b"), 1, (0, 1))
    m = accumulate(np.zeros((0, 2)), schema)
    assert m.n == 0
    assert all(not getattr(m, name).any() for name in SUMS)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e73, 1e200, 1.7e308])
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_accumulate_of_overflowing_values_names_the_column(bad: float, gap: bool, column: int) -> None:
    """Values whose powers overflow are refused, with and without gaps elsewhere, in C and in B."""
    x = np.array([[1.0, 2.0, 1.0], [2.0, 3.0, 0.0], [4.0, 5.0, 1.0]])
    x[1, column] = bad
    if gap:
        x[0, (column + 1) % 3] = np.nan
    with pytest.raises(ValueError, match=f"'{'abc'[column]}'"):
        accumulate(x, Schema(("a", "b", "c"), 2, (0, 1, 2)))


def test_accumulate_of_both_infinities_names_the_column() -> None:
    """Their sum is NaN, which must not pass for a gap."""
    x = np.array([[1.0, np.inf], [2.0, -np.inf]])
    with pytest.raises(ValueError, match="'b'"):
        accumulate(x, Schema(("a", "b"), 2, (0, 1)))


@pytest.mark.parametrize("scale", [LARGEST, -LARGEST, 1e-160, 5e-324])
def test_accumulate_at_the_ends_of_the_range_works(scale: float) -> None:
    """The largest values allowed and denormal ones have finite sums."""
    m = accumulate(np.array([[scale], [-scale], [0.0]]), Schema(("a",), 1, (0,)))
    assert np.isfinite(m.t4).all()


@pytest.mark.parametrize("bad", [0.5, 2.0, -1.0, 1e-300, 1 - 2**-53, 5e-324])
@pytest.mark.parametrize("gap", [False, True])
def test_accumulate_of_other_values_in_binary_columns_names_the_column(bad: float, gap: bool) -> None:
    """B is 0, 1 or missing, to the last bit."""
    x = np.array([[1.0, 0.0, 1.0], [2.0, 1.0, bad], [3.0, 1.0, np.nan if gap else 1.0]])
    with pytest.raises(ValueError, match=r"'c'.*0 and 1"):
        accumulate(x, Schema(("a", "b", "c"), 1, (0, 1, 2)))


def test_accumulate_of_torn_or_overlapping_categories_names_the_column() -> None:
    """One-hot columns are missing together and exclude each other."""
    schema = Schema(("t$a", "t$b"), 0, (0, 0))
    with pytest.raises(ValueError, match=r"'t\$b' is missing"):
        accumulate(np.array([[1.0, 0.0], [1.0, np.nan]]), schema)
    with pytest.raises(ValueError, match=r"'t\$a' is 1 in rows"):
        accumulate(np.array([[1.0, 1.0], [1.0, 0.0]]), schema)


@pytest.mark.parametrize(
    "x", [np.zeros((2, 3)), np.zeros(2), np.zeros((2, 2), dtype=np.float32), np.zeros((2, 2), dtype=int)]
)
def test_accumulate_of_other_shapes_and_types_is_refused(x: np.ndarray) -> None:
    """Rows are (n, p) float64: nothing is converted silently."""
    with pytest.raises(ValueError, match="rows"):
        accumulate(x, Schema(("a", "b"), 2, (0, 1)))


@pytest.mark.parametrize("origin", [[0.0], [0.0, 1.0], [np.nan, 0.0], [1e80, 0.0]])
def test_accumulate_with_a_bad_origin_is_refused(origin: list[float]) -> None:
    """One finite number per attribute, 0 for B."""
    with pytest.raises(ValueError, match="origin"):
        accumulate(np.zeros((2, 2)), Schema(("a", "b"), 1, (0, 1)), origin=np.array(origin))


def test_batch_origin_rounds_means_half_to_even_by_the_deviation() -> None:
    """sd 2.5 has unit 2, so 5 and 7 go to even multiples; constants stay; all-missing and B are 0."""
    nan = np.nan
    x = np.array([[2.5, 4.5, 0.1, nan, 1.0], [7.5, 9.5, 0.1, nan, 1.0]])
    origin = batch_origin(x, Schema(("a", "b", "c", "d", "e"), 4, (0, 1, 2, 3, 4)))
    assert origin.tolist() == [4.0, 8.0, 0.1, 0.0, 0.0]


def test_batch_origin_skips_missing_values() -> None:
    """Gaps neither shift the mean nor hide that the rest is constant."""
    x = np.array([[1e9, np.nan], [1e9 + 2, 7.3], [np.nan, 7.3]])
    assert batch_origin(x, Schema(("a", "b"), 2, (0, 1))).tolist() == [1e9 + 1, 7.3]


def test_batch_origin_of_many_sorted_rows_is_within_a_deviation_of_the_mean() -> None:
    """The rows that the deviation is estimated from are spread over the batch, not its head."""
    x = np.sort(np.random.default_rng(0).normal(1e9, 1, (20_000, 1)), axis=0)
    origin = batch_origin(x, Schema(("a",), 1, (0,)))
    assert abs(origin[0] - x.mean()) <= 1
    assert origin[0] * 2 == np.rint(origin[0] * 2)


def test_batch_origin_of_rare_values_outside_the_sample_stays_near() -> None:
    """A column that looks constant, or empty, in the sample still gets an origin near its values."""
    x = np.full((5_000, 2), 3.0)
    x[:, 1] = np.nan
    x[1, :] = 1e6
    m = accumulate(x, Schema(("a", "b"), 2, (0, 1)))
    assert m.origin.tolist() == [3.0, 1e6]
    assert m.N.tolist() == [1]
