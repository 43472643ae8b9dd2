"""Honest snapshots always pass the receiver's checks; each class of tampering is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gramian.domain.statistics import packed, possible
from gramian.domain.statistics.checks import verify
from gramian.domain.statistics.clamp import clamp
from gramian.domain.statistics.gaps import expand, second_moments
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.layout import SUMS
from gramian.domain.statistics.merge import add, doubtful, rebase, subtract
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.origin import standard_origin
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import empty
from gramian.errors import Refused

SEEDS = st.integers(0, 2**32 - 1)


def publish(m: Moments) -> Moments:
    """What a node shows to its peers."""
    return clamp(rebase(m, standard_origin(m)))


def split(x: Array, schema: Schema, seed: int) -> list[Moments]:
    rng = np.random.default_rng(seed)
    borders = np.sort(rng.integers(0, len(x) + 1, size=rng.integers(0, 6)))
    return [accumulate(part, schema) for part in np.split(x, borders)]


@given(seed=SEEDS)
@settings(deadline=None, max_examples=150)
def test_verify_of_honest_statistics_passes(seed: int, nasty: Callable) -> None:
    """Any rows, merged from any split, rebased and clamped; also what others add up from it."""
    x, schema = nasty(seed, most_rows=200)
    parts = split(x, schema, seed)
    total = reduce(add, parts)
    verify(publish(total))
    verify(clamp(total))
    verify(publish(reduce(add, [publish(part) for part in parts])))


@given(seed=SEEDS)
@example(seed=832)  # a cross product far above its bound is left of huge forgotten ones
@example(seed=1034)  # denormal sums
@settings(deadline=None, max_examples=150)
def test_verify_of_honest_statistics_after_forget_passes(seed: int, nasty: Callable) -> None:
    """What forgetting leaves, rounding of the forgotten mass and all, passes once clamped, step by step."""
    x, schema = nasty(seed, most_rows=200)
    parts = split(x, schema, seed)
    left = reduce(add, parts)
    for part in parts:
        left = subtract(left, part)
        verify(publish(left))
        verify(publish(add(left, part)))


@pytest.mark.parametrize("outlier", [1e3, 1e6, 1e9, 1e12, 1e15])
@pytest.mark.parametrize("gap", [False, True])
def test_verify_after_forgetting_an_outlier_passes(outlier: float, gap: bool) -> None:
    """The forgotten mass is up to 1e30 times what is left, in one column, in all, with one-hot columns beside."""
    rng = np.random.default_rng(0)
    schema = Schema(("a", "b", "c", "t$x", "t$y"), 3, (0, 1, 2, 3, 3))
    x = np.column_stack((rng.normal(0, 1, (60, 3)), np.arange(60) % 2 == 0, np.arange(60) % 2 == 1)).astype(float)
    x[:, 2] = x[:, 0] + x[:, 1]
    x[50:, :2] += outlier * rng.normal(1, 1, (10, 2))
    if gap:
        x[::7, 1] = np.nan
        x[::5, 3:] = np.nan
    total = accumulate(x, schema)
    left = subtract(total, accumulate(x[50:], schema))
    verify(publish(left))
    if outlier >= 1e6:
        assert "a" in doubtful(left)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=50)
def test_clamp_of_statistics_that_are_in_bounds_moves_nothing_visibly(seed: int, nasty: Callable) -> None:
    """Without forget, clamping is a matter of last digits, and doing it twice changes nothing."""
    x, schema = nasty(seed)
    m = accumulate(x, schema)
    once = clamp(m)
    for name in SUMS:
        before, after = getattr(m, name), getattr(once, name)
        np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-290, err_msg=name)
    twice = clamp(once)
    assert all(np.array_equal(getattr(once, name), getattr(twice, name)) for name in SUMS)
    assert once.local is None


def test_clamp_of_impossible_statistics_is_refused() -> None:
    """Clamping repairs rounding, not nonsense."""
    m = accumulate(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), Schema(("a", "b"), 0, (0, 1)))
    with pytest.raises(ValueError, match="inconsistent"):
        clamp(replace(m, P=m.P * np.array([1.0, 9.0, 1.0])))


def test_verify_of_empty_statistics_passes() -> None:
    """No rows are possible rows."""
    verify(publish(empty(Schema(("a", "b", "c"), 1, (0, 1, 2)))))


# -- tampering -----------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "s", "t$x", "t$y")
SCHEMA = Schema(NAMES, 3, (0, 1, 2, 3, 4, 4))


@pytest.fixture(scope="module")
def honest() -> Moments:
    """Three C of which `b` has gaps, a B with gaps, a one-hot pair."""
    rng = np.random.default_rng(5)
    n = 400
    category = rng.integers(0, 3, n)
    x = np.column_stack((rng.normal(10, 2, (n, 3)), rng.random(n) < 0.4, category == 0, category == 1)).astype(float)
    x[:, 2] += x[:, 0]
    x[rng.random(n) < 0.2, 1] = np.nan
    x[rng.random(n) < 0.3, 3] = np.nan
    m = publish(accumulate(x, SCHEMA))
    verify(m)
    return m


def put(m: Moments, name: str, index: Any, value: float, *, plus: bool = False, times: bool = False) -> Moments:
    """A copy with one entry changed."""
    values = getattr(m, name).copy()
    values[index] = values[index] + value if plus else values[index] * value if times else value
    return replace(m, **{name: values})


def cell(i: int, j: int) -> int:
    return packed.entry(i, j, len(NAMES))


TAMPERED: dict[str, tuple[Callable[[Moments], Moments], str]] = {
    "rows negative": (lambda m: replace(m, n=-1), "n is not a whole"),
    "rows not an int": (lambda m: replace(m, n=400.0), "n is not a whole"),  # type: ignore[arg-type]
    "rows a bool": (lambda m: replace(m, n=True), "n is not a whole"),
    "rows beyond 2^53": (lambda m: replace(m, n=2**53 + 1), "n is not a whole"),
    "gaps unsorted": (lambda m: replace(m, gaps=m.gaps[::-1]), "gaps are not sorted"),
    "gaps unknown": (lambda m: replace(m, gaps=(1, 9)), "gaps are not sorted"),
    "shape": (lambda m: replace(m, G=m.G[:, :2]), "G is not float64 of shape"),
    "dtype": (lambda m: replace(m, s=m.s.astype(np.float32)), "s is not float64"),  # type: ignore[arg-type]
    "origin NaN": (lambda m: put(m, "origin", 0, np.nan), "origin is not finite: attribute 'a'"),
    "s infinite": (lambda m: put(m, "s", 2, np.inf), "s is not finite: attribute 'c'"),
    "t3 NaN": (lambda m: put(m, "t3", 1, np.nan), "t3 is not finite: attribute 'b'"),
    "t4 infinite": (lambda m: put(m, "t4", 1, np.inf), "t4 is not finite: attribute 'b'"),
    "P NaN": (lambda m: put(m, "P", cell(1, 2), np.nan), "P is not finite: attribute 'b'"),
    "G NaN": (lambda m: put(m, "G", (2, 0), np.nan), "G is not finite: attribute 'c'"),
    "N NaN": (lambda m: put(m, "N", 0, np.nan), "N is not finite: attribute 'b'"),
    "S NaN": (lambda m: put(m, "S", (0, 1), np.nan), "S is not finite: attribute 'a'"),
    "Q NaN": (lambda m: put(m, "Q", (0, 1), np.nan), "Q is not finite: attribute 'a'"),
    "origin too large": (lambda m: put(m, "origin", 0, 1e73), "origin is too large: attribute 'a'"),
    "origin of B": (lambda m: put(m, "origin", 3, 0.5), "origin of type B is not 0: attribute 's'"),
    "N not whole": (lambda m: put(m, "N", 1, 0.5, plus=True), "N is not whole"),
    "N above n": (lambda m: put(m, "N", 0, 1e6), "N is not that of a group with gaps: attribute 'b'"),
    "N without gap": (lambda m: put(m, "N", 0, 400.0), "N is not that of a group with gaps: attribute 'b'"),
    "N negative": (lambda m: put(m, "N", 0, -1.0), "N is not that of a group with gaps: attribute 'b'"),
    "N pair too large": (lambda m: put(m, "N", 1, m.N[0] + 1), "N is out of bounds"),
    "N pair too small": (lambda m: put(m, "N", 1, m.N[0] + m.N[2] - 401), "N is out of bounds"),
    "ones not whole": (lambda m: put(m, "s", 4, 0.25, plus=True), r"count of ones is not whole: attribute 't\$x'"),
    "ones negative": (lambda m: put(m, "s", 4, -1.0), r"count of ones is out of bounds: attribute 't\$x'"),
    "ones above n": (lambda m: put(m, "s", 4, 401.0), r"count of ones is out of bounds: attribute 't\$x'"),
    "masked ones too many": (
        lambda m: put(m, "S", (4, 0), m.s[4] + 1),
        r"count of ones is out of bounds: attribute 't\$x'",
    ),
    "P_jj": (lambda m: put(m, "P", cell(3, 3), 1.0, plus=True), "P_jj is not the count of ones: attribute 's'"),
    "cell not whole": (lambda m: put(m, "P", cell(3, 4), 0.5, plus=True), "cell count is not whole: attribute 's'"),
    "cell too large": (lambda m: put(m, "P", cell(3, 4), 300.0), "cell count is out of bounds: attribute 's'"),
    "cell negative": (lambda m: put(m, "P", cell(3, 4), -1.0), "cell count is out of bounds: attribute 's'"),
    "one-hot": (lambda m: put(m, "P", cell(4, 5), 1.0), r"category is not exclusive: attribute 't\$x'"),
    "S own": (lambda m: put(m, "S", (1, 0), 1e-6, plus=True), "S is not s .*: attribute 'b'"),
    "Q own": (lambda m: put(m, "Q", (1, 0), 0.99, times=True), "Q is not P_ii .*: attribute 'b'"),
    "Q negative": (lambda m: put(m, "Q", (0, 0), -1.0), "sum of squares is out of bounds: attribute 'a'"),
    "Q above P_ii": (lambda m: put(m, "Q", (0, 0), 1e9), "sum of squares is out of bounds: attribute 'a'"),
    "P_ii negative": (lambda m: put(m, "P", cell(0, 0), -1.0), "sum of squares is out of bounds: attribute 'a'"),
    "S^2": (lambda m: put(m, "S", (0, 0), 1e4), "S\\^2 is above N Q: attribute 'a'"),
    "s^2": (lambda m: put(m, "s", 0, 1e4), "S\\^2 is above N Q: attribute 'a'"),
    "G negative": (lambda m: put(m, "G", (2, 1), -1.0), "G is out of bounds: attribute 'c'"),
    "G above Q": (lambda m: put(m, "G", (2, 1), 1e9), "G is out of bounds: attribute 'c'"),
    "G too small": (lambda m: put(m, "G", (2, 1), 0.0), "P\\^2 is above n1 G: attribute 'c'"),
    "T4 negative": (lambda m: put(m, "t4", 0, -1.0), "T4 is negative: attribute 'a'"),
    "T4 too small": (lambda m: put(m, "t4", 0, 1.0), "T2\\^2 is above n T4: attribute 'a'"),
    "T4 too large": (lambda m: put(m, "t4", 0, 1e30), "T4 is above T2\\^2: attribute 'a'"),
    "T3": (lambda m: put(m, "t3", 0, 1e9), "T3\\^2 is above T2 T4: attribute 'a'"),
    "covariance infinite on its scale": (lambda m: put(m, "P", cell(0, 2), 1.7e308), "'c' are impossible"),
    "covariance": (lambda m: put(m, "P", cell(0, 2), 1.5, times=True), "'c' are impossible"),
    "covariance with B": (lambda m: put(m, "s", 0, 300.0, plus=True), "impossible|above"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_verify_of_tampered_statistics_names_check_and_attribute(kind: str, honest: Moments) -> None:
    """One changed number is refused by the check that is there for it."""
    tamper, text = TAMPERED[kind]
    with pytest.raises(Refused, match=text):
        verify(tamper(honest))


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that goes by blocks of rows takes two rows or so at a time."""
    monkeypatch.setattr(packed, "BLOCK_ENTRIES", 4)
    monkeypatch.setattr(possible, "ONE_BLOCK_ROWS", 1)
    monkeypatch.setattr(possible, "BLOCK_ROWS", 2)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("kind", TAMPERED)
def test_verify_by_small_blocks_names_the_same(kind: str, honest: Moments) -> None:
    """Where blocks begin changes neither what is refused nor what is said about it."""
    tamper, text = TAMPERED[kind]
    verify(honest)
    with pytest.raises(Refused, match=text):
        verify(tamper(honest))


@pytest.mark.usefixtures("tiny_blocks")
@given(seed=SEEDS)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_verify_by_small_blocks_passes_honest_statistics(seed: int, nasty: Callable) -> None:
    """A factor made by blocks is as good as one of LAPACK's."""
    x, schema = nasty(seed, most_rows=200)
    verify(publish(reduce(add, split(x, schema, seed))))


def test_verify_of_products_without_shared_rows_is_refused() -> None:
    """Two attributes that are never present together have no products."""
    nan = np.nan
    m = publish(accumulate(np.array([[1.0, nan], [2.0, nan], [nan, 1.0], [nan, 3.0]]), Schema(("a", "b"), 2, (0, 1))))
    verify(m)
    with pytest.raises(Refused, match="no row has both attributes: attribute 'a'"):
        verify(put(m, "P", 1, 0.1))


def test_verify_of_values_beyond_the_limit_is_refused() -> None:
    """A snapshot that could overflow a merge does not get there."""
    m = clamp(accumulate(np.array([[1.0], [-1.0]]), Schema(("a",), 1, (0,)), origin=np.zeros(1)))
    square = 2e146
    huge = replace(m, P=np.array([square]), t4=np.array([square * square / 2.0]))
    with pytest.raises(Refused, match="sum of squares is too large: attribute 'a'"):
        verify(huge)


def test_verify_of_statistics_with_rows_but_none_counted_is_refused() -> None:
    """n = 0 admits no sums, whichever array they hide in."""
    none = empty(Schema(("a", "b"), 1, (0, 1)))
    for name in SUMS[1:]:
        for k in range(getattr(none, name).size):
            with pytest.raises(Refused):
                verify(put(none, name, np.unravel_index(k, getattr(none, name).shape), 1.0))


def test_verify_of_a_listed_group_without_gap_is_refused(honest: Moments) -> None:
    """Two spellings of the same statistics would have two digests."""
    with pytest.raises(Refused, match="N is not that of a group with gaps: attribute 'a'"):
        verify(expand(honest, [0, *honest.gaps]))


def test_verify_of_pairwise_covariances_that_are_not_semidefinite_passes() -> None:
    """With gaps, honest pairwise correlations of 1, 1 and -1 occur: the test is over masks and values instead."""
    nan = np.nan
    rows = [[k, k, nan] for k in (-1.0, 1.0)] + [[k, nan, k] for k in (-1.0, 1.0)] + [[nan, k, -k] for k in (-1.0, 1.0)]
    m = accumulate(np.array(rows * 4), Schema(("a", "b", "c"), 3, (0, 1, 2)))
    verify(publish(m))
    assert (second_moments(m) > 0).all()
