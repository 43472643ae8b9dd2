"""Rebase, add and forget against exact arithmetic: any split, any order, any gaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.statistics import packed
from gramian.domain.statistics.derived import counts, covariance, means, variances
from gramian.domain.statistics.gaps import second_moments
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.merge import FAR_SD, add, doubtful, rebase, subtract
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.origin import rounded, standard_origin
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import empty

SEEDS = st.integers(0, 2**32 - 1)
AB = Schema(("a", "b"), 1, (0, 1))


def split(x: Array, schema: Schema, seed: int) -> list[Moments]:
    """Batches of a random split, in random order."""
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.integers(0, len(x) + 1, size=rng.integers(0, 6)))
    parts = [accumulate(part, schema) for part in np.split(x, borders)]
    return [parts[k] for k in rng.permutation(len(parts))]


@given(seed=SEEDS)
@settings(deadline=None, max_examples=80)
def test_add_of_any_split_in_any_order_equals_exact_sums(seed: int, nasty: Callable, assert_moments: Callable) -> None:
    """Merged sums are those of the pooled rows about the merged origin."""
    x, schema = nasty(seed)
    assert_moments(reduce(add, split(x, schema, seed)), x, tolerance=1e-12)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=80)
def test_covariance_of_any_split_equals_that_of_the_pooled_rows(seed: int, nasty: Callable, exact: type) -> None:
    """Means and covariances over present pairs are within 1e-11 standard deviations of exact ones, or rounding of P."""
    x, schema = nasty(seed)
    m, reference = reduce(add, split(x, schema, seed)), exact(x)
    result, mean = covariance(m), means(m)
    n, squares = counts(m), second_moments(m)
    spread = [float(reference.covariance(i, i) or 0) * n[i] for i in range(m.size)]
    for i in range(m.size):
        values = [value for (value,) in reference.rows(i)]
        if values:
            error = abs(float(Fraction(mean[i]) - sum(values) / len(values)))
            assert error <= 1e-11 * np.sqrt(spread[i] / n[i]) + 2e-16 * abs(mean[i])
        for j in range(m.size):
            wanted, pairs = reference.covariance(i, j), len(reference.rows(i, j))
            if wanted is None:
                assert np.isnan(result[i, j])
            else:
                bound = 1e-11 * np.sqrt(spread[i]) * np.sqrt(spread[j]) + 1e-15 * np.sqrt(squares[i] * squares[j])
                assert abs(float(Fraction(float(result[i, j])) - wanted)) <= bound / pairs + 1e-300
    assert np.array_equal(result, result.T, equal_nan=True)
    assert np.array_equal(result.diagonal(), variances(m), equal_nan=True)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_rebase_equals_accumulating_about_the_other_origin(
    seed: int, nasty: Callable, assert_moments: Callable
) -> None:
    """The identities of section 1, checked against exact sums about the new origin; the way back loses no more."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    rng = np.random.default_rng(seed)
    deviation = np.nan_to_num(np.sqrt(variances(m)))
    origin = m.origin + np.where(np.arange(m.size) < schema.continuous, rng.uniform(-16, 16, m.size) * deviation, 0)
    moved = rebase(m, origin)
    assert moved.origin.tolist() == origin.tolist()
    assert_moments(moved, x, tolerance=1e-12)
    scale = second_moments(moved)
    assert_moments(rebase(moved, m.origin), x, tolerance=1e-12, scale=scale)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_redundant_sums_keep_equal_bits_through_everything(seed: int, nasty: Callable) -> None:
    """S and Q of an attribute's own mask are s and P_ii to the last bit, after add, rebase and forget."""
    x, schema = nasty(seed)
    parts = split(x, schema, seed)
    total = reduce(add, parts)
    for m in (total, rebase(total, standard_origin(total)), subtract(total, parts[0])):
        for k, group in enumerate(m.gaps):
            for i in (i for i, g in enumerate(schema.groups) if g == group):
                assert m.S[i, k] == m.s[i]
                if i < schema.continuous:
                    assert m.Q[i, k] == second_moments(m)[i]


def test_rebase_of_b_is_refused() -> None:
    """The origin of B is always 0."""
    with pytest.raises(ValueError, match="type B"):
        rebase(accumulate(np.ones((2, 2)), AB), np.array([0.0, 1.0]))


@pytest.mark.parametrize("peers", [1, 8])
def test_variance_of_a_far_column_in_sorted_peers_is_exact(peers: int, exact: type) -> None:
    """1e9 + N(0, 1) in 8 sorted peers: plain sums are off by 1e2, Chan's update by 2e-8, this by rounding."""
    x = np.sort(1e9 + np.random.default_rng(7).normal(0, 1, (4_000, 1)), axis=0)
    schema = Schema(("a",), 1, (0,))
    m = reduce(add, (accumulate(part, schema) for part in np.array_split(x, peers)))
    wanted = exact(x).covariance(0, 0)
    error = abs(Fraction(float(variances(m)[0])) / wanted - 1)
    assert error < 2e-15


def test_add_keeps_a_near_origin_and_leaves_a_far_one() -> None:
    """Within FAR_SD pooled deviations of the mean a's origin stays; beyond, the rule's new one comes."""
    x = np.random.default_rng(0).normal(0, 1, (1_000, 1))
    schema = Schema(("a",), 1, (0,))
    near, far = (accumulate(x[:500], schema, origin=np.array([o])) for o in (FAR_SD - 1, FAR_SD + 1))
    rest = accumulate(x[500:], schema)
    assert add(near, rest).origin.tolist() == [FAR_SD - 1]
    assert abs(add(far, rest).origin[0]) <= 1
    assert add(rest, far).origin.tolist() == rest.origin.tolist()


def test_add_of_empty_statistics_changes_nothing() -> None:
    """No rows have no origin to impose, on either side."""
    m = accumulate(np.array([[1e9, 1.0], [1e9 + 1, 0.0]]), AB)
    for total in (add(empty(AB), m), add(m, empty(AB))):
        assert total.n == 2
        assert all(np.array_equal(getattr(total, name), getattr(m, name)) for name in SUMS)
        assert total.local is not None
        assert total.local.high.tolist() == [1e9 + 1, 1.0]


def test_add_takes_the_origin_of_the_side_that_has_values() -> None:
    """A column that is all missing on one side must not drag the other to origin 0."""
    missing = accumulate(np.array([[np.nan, 1.0]]), AB)
    present = accumulate(np.array([[1e9, 1.0], [1e9 + 1, 0.0]]), AB)
    for total in (add(missing, present), add(present, missing)):
        assert total.origin[0] == present.origin[0]
        assert total.s[0] == present.s[0]
        assert total.gaps == (0,)


def test_add_of_equal_constants_stays_exactly_constant() -> None:
    """0.1 has no exact sum, yet its variance is exactly 0 in any federation."""
    m = accumulate(np.full((7, 1), 0.1), Schema(("a",), 1, (0,)))
    total = reduce(add, [m] * 13)
    assert variances(total).tolist() == [0.0]
    assert means(total).tolist() == [0.1]


def test_add_of_different_schemas_is_refused() -> None:
    """Statistics of other attributes do not add."""
    with pytest.raises(ValueError, match="schemas"):
        add(empty(AB), empty(Schema(("a", "c"), 1, (0, 1))))


def test_add_drops_local_arrays_unless_both_have_them() -> None:
    """Half-known extremes would be wrong."""
    m = accumulate(np.ones((2, 2)), AB)
    assert add(m, replace(m, local=None)).local is None
    assert add(replace(m, local=None), empty(AB)).local is None


@given(seed=SEEDS)
@settings(deadline=None, max_examples=80)
def test_subtract_leaves_the_other_rows(seed: int, nasty: Callable, assert_moments: Callable) -> None:
    """Forgetting a part leaves the sums of the rest, within the rounding of what was there."""
    x, schema = nasty(seed)
    k = int(np.random.default_rng(seed).integers(0, len(x) + 1))
    kept, gone = accumulate(x[:k], schema), accumulate(x[k:], schema)
    total = add(kept, gone)
    left = subtract(total, gone)
    assert left.gaps == kept.gaps
    scale = second_moments(total) + second_moments(rebase(gone, total.origin))
    assert_moments(left, x[:k], tolerance=1e-12, scale=scale)
    assert left.local is not None
    assert (left.local.a >= second_moments(left) - 1e-12 * scale).all()
    held = counts(left) > 0
    low, high = left.local.low[held], left.local.high[held]
    assert (low <= np.nanmin(x[:k][:, held], axis=0, initial=np.inf)).all()
    assert (high >= np.nanmax(x[:k][:, held], axis=0, initial=-np.inf)).all()


@given(seed=SEEDS)
@settings(deadline=None, max_examples=30)
def test_subtract_of_everything_is_empty(seed: int, nasty: Callable) -> None:
    """No rounding stays behind without rows."""
    x, schema = nasty(seed)
    parts = split(x, schema, seed)
    left = reduce(subtract, parts, reduce(add, parts))
    assert left.n == 0
    assert all(not getattr(left, name).any() for name in SUMS)


def test_subtract_flags_attributes_that_lost_their_digits() -> None:
    """A forgotten outlier of 1e9 leaves a variance of 1 with few digits; other attributes stay trusted."""
    x = np.column_stack((np.random.default_rng(0).normal(0, 1, (2, 100)).T, np.ones(100)))
    x[3, 0] = 1e9
    schema = Schema(("a", "b", "c"), 2, (0, 1, 2))
    total = accumulate(x, schema)
    assert doubtful(total) == []
    assert doubtful(subtract(total, accumulate(x[3:4], schema))) == ["a"]
    with pytest.raises(ValueError, match="local"):
        doubtful(replace(total, local=None))


@pytest.mark.parametrize(
    ("learned", "forgotten", "named"),
    [
        ([[1.0, 1.0]], [[1.0, 1.0], [2.0, 0.0]], "2 rows"),
        ([[1.0, 1.0], [np.nan, 0.0]], [[1.0, 1.0], [3.0, 0.0]], "'a'"),
        ([[1.0, 1.0], [2.0, 0.0]], [[np.nan, 1.0]], "'a'"),
        ([[1.0, 1.0], [2.0, 0.0], [4.0, 0.0]], [[1.0, 1.0], [2.0, 1.0]], "'b'"),
        ([[1.0, 0.0], [2.0, 0.0], [4.0, 1.0]], [[9.0, 0.0], [-9.0, 0.0]], "'a'"),
        ([[1.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [3.0, 0.0]], "'a'"),
    ],
)
def test_subtract_of_rows_that_were_not_learned_is_refused(
    learned: list[list[float]], forgotten: list[list[float]], named: str
) -> None:
    """More rows, more values, gaps that were none, other categories, impossible variances, leftovers."""
    a, b = (accumulate(np.array(rows), AB) for rows in (learned, forgotten))
    with pytest.raises(ValueError, match=named):
        subtract(a, b)


def test_standard_origin_of_clean_batches_is_the_batch_rule() -> None:
    """The rule gives the same for a batch and for its statistics."""
    x = np.random.default_rng(2).normal([3, 1e6, -7e-3], [1, 10, 1e-4], (300, 3))
    m = accumulate(x, Schema(("a", "b", "c"), 3, (0, 1, 2)))
    assert standard_origin(m).tolist() == m.origin.tolist()


def test_rounded_means_are_multiples_of_the_unit_without_negative_zero() -> None:
    """Half to even; -0.3 becomes +0; a mean beyond 2^53 units stays; so does one without a spread."""
    mean = np.array([2.5, 3.5, -0.3, 1e30, 0.1, 5e-324])
    result = rounded(mean, np.array([1.0, 1.0, 1.0, 1.0, 0.0, 1e-320]))
    assert result.tolist() == [2.0, 4.0, 0.0, 1e30, 0.1, 0.0]
    assert not np.signbit(result).any()


def test_packed_round_trip_keeps_every_entry() -> None:
    """pack, unpack, diagonal, rows and entry agree on where things are."""
    full = np.arange(25.0).reshape(5, 5)
    full += full.T
    upper = packed.pack(full)
    assert np.array_equal(packed.unpack(upper, 5), full)
    assert np.array_equal(upper[packed.diagonal(5)], full.diagonal())
    assert all(np.array_equal(upper[row], full[i, i:]) for i, row in packed.rows(5))
    assert all(upper[packed.entry(i, j, 5)] == full[i, j] for i in range(5) for j in range(5))
    assert packed.unpack(np.zeros(0), 0).shape == (0, 0)
