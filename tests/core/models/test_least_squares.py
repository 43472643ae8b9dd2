"""The minimum-norm solver and the correction of indefinite correlations, on plain arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.models.least_squares import least_squares, shrinkage


def standardise(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, r and scale of rows x (n, p) and y (n,)."""
    full = np.corrcoef(np.column_stack([x, y]), rowvar=False)
    np.fill_diagonal(full, 1.0)
    return full[:-1, :-1], full[:-1, -1], x.std(axis=0)


def singular_rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of rank 4 in 7 columns on scales between 1e-3 and 1e3; the first column is independent of the others."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=60), rng.normal(size=(60, 3)) @ rng.normal(size=(3, 6))])
    x *= 10.0 ** rng.integers(-3, 4, size=7)
    return x, x @ (rng.normal(size=7) / x.std(axis=0)) + rng.normal(size=60)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_least_squares_of_a_singular_system_has_the_least_norm_of_slopes(seed: int) -> None:
    """The unscaled slopes are those of the pseudo-inverse, whatever the columns' scales."""
    x, y = singular_rows(seed)
    R, r, scale = standardise(x, y)
    solution = least_squares(R, r, scale)
    centred = x - x.mean(axis=0)
    # The null space in units of standard deviations is well determined; project there and scale.
    _, singular, rows = np.linalg.svd(centred / scale)
    null, _ = np.linalg.qr(rows[4:].T / scale[:, None])
    slopes = solution.gamma / scale
    assert solution.rank == 4
    assert singular[4] < 1e-10 * singular[0]
    assert np.abs(null.T @ slopes).max() <= 1e-7 * np.abs(slopes).max()
    np.testing.assert_allclose(R @ solution.gamma, r, atol=1e-9)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_variances_of_a_singular_system_are_those_of_the_pseudo_inverse(seed: int) -> None:
    """An estimable slope has the pseudo-inverse's diagonal entry, any other NaN."""
    x, y = singular_rows(seed)
    R, r, scale = standardise(x, y)
    solution = least_squares(R, r, scale)
    assert solution.estimable.tolist() == [True] + [False] * 6
    variances = solution.variances()
    assert variances[0] == pytest.approx(np.linalg.pinv(R, rcond=1e-10)[0, 0], rel=1e-8)
    assert np.isnan(variances[1:]).all()
    assert solution.variance_along(np.eye(7)[0]) == pytest.approx(variances[0], rel=1e-10)
    assert math.isnan(solution.variance_along(np.eye(7)[3]))


def test_variance_along_an_estimable_sum_is_found_although_its_parts_are_open() -> None:
    """Of two equal columns only the sum of slopes is determined: its variance is that of one column's slope."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    R, r, scale = standardise(np.column_stack([a, a, b]), a + b)
    solution = least_squares(R, r, scale)
    rho = R[0, 2]
    assert solution.variance_along(np.array([1.0, 1.0, 0.0])) == pytest.approx(1 / (1 - rho * rho), rel=1e-10)
    assert math.isnan(solution.variance_along(np.array([1.0, -1.0, 0.0])))


@pytest.mark.parametrize(("least", "digits"), [(1.0, 14), (0.05, 13), (1e-3, 12), (1e-7, 7)])
def test_digits_follow_the_last_pivot(least: float, digits: int) -> None:
    """Expected digits are those that the condition of two correlated columns leaves, rounded down."""
    rho = math.sqrt(1 - least)
    solution = least_squares(np.array([[1.0, rho], [rho, 1.0]]), np.array([0.5, 0.5]), np.ones(2))
    assert solution.digits == digits


def test_shrinkage_of_a_semidefinite_matrix_is_zero() -> None:
    """Correlations of real rows need no correction, also where they are singular."""
    x, y = singular_rows(7)
    R, _, _ = standardise(x, y)
    assert shrinkage(R) == 0.0


@pytest.mark.parametrize("below", [-1e-9, -1e-4, -0.03, -0.4, -3.0])
def test_shrinkage_of_an_indefinite_matrix_makes_it_definite_with_room(below: float) -> None:
    """a is a power of two that lifts the least eigenvalue to at least its former size, and little more."""
    rho = 1.0 - below
    R = np.array([[1.0, rho, 0.0], [rho, 1.0, 0.0], [0.0, 0.0, 1.0]])
    a = shrinkage(R)
    assert math.frexp(a)[0] == 0.5
    lifted = np.linalg.eigvalsh(R + a * np.eye(3)).min()
    assert -below <= lifted * (1 + 1e-6)
    assert lifted <= 3.0 * -below
