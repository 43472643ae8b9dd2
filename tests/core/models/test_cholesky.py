"""The pivoted Cholesky factor and its triangular systems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.models import cholesky
from gramian.domain.models.cholesky import combine, factorise, inverse_diagonal, solve_lower, solve_upper


def correlations(size: int, rank: int, seed: int) -> np.ndarray:
    """Random (size, size) correlation matrix of the given rank."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(rank, size))
    rows /= np.sqrt((rows * rows).sum(axis=0))
    R = rows.T @ rows
    np.fill_diagonal(R, 1.0)
    return R


@given(size=st.integers(1, 40), missing=st.integers(0, 10), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_factorise_of_any_rank_rebuilds_the_matrix(size: int, missing: int, seed: int) -> None:
    """U^T U equals R in pivot order, with as many rows as R has rank and falling pivots."""
    rank = max(1, size - missing)
    R = correlations(size, rank, seed)
    factor = factorise(R)
    assert np.abs(factor.U.T @ factor.U - R[np.ix_(factor.order, factor.order)]).max() < 1e-11
    assert factor.rank <= rank
    assert sorted(factor.order) == list(range(size))
    assert (np.diff(factor.U.diagonal()) <= 1e-12).all()
    assert factor.last_pivot == pytest.approx(factor.U[-1, factor.rank - 1] ** 2)


def test_factorise_with_a_repeated_column_leaves_it_dependent() -> None:
    """Two equal columns give one pivot, and the first of them is taken."""
    R = correlations(5, 5, 1)
    R[3], R[:, 3] = R[0].copy(), R[:, 0].copy()
    R[3, 3] = 1.0
    factor = factorise(R)
    assert factor.rank == 4
    assert factor.dependents.tolist() == [3]


def test_factorise_without_columns_has_rank_zero() -> None:
    """An empty matrix has the empty factor and a harmless last pivot."""
    factor = factorise(np.empty((0, 0)))
    assert (factor.rank, factor.last_pivot, factor.bits_may_differ) == (0, 1.0, False)


def test_factorise_leaves_its_argument_alone() -> None:
    """The matrix is read, never overwritten."""
    R = correlations(30, 20, 2)
    before = R.copy()
    factorise(R)
    assert np.array_equal(R, before)


@pytest.mark.parametrize("width", [1, 2, 3, 8, 100])
@pytest.mark.parametrize("order", ["C", "F"])
def test_combine_of_any_layout_adds_in_chunks_row_after_row(width: int, order: str) -> None:
    """The bits are those of explicit additions in a fixed order, also where numpy would add pairwise."""
    rng = np.random.default_rng(width)
    weights = rng.normal(size=200)
    rows = np.array(rng.normal(size=(200, width)), order=order)
    total = np.zeros(width)
    for start in range(0, 200, cholesky.CHUNK):
        chunk = None
        for k in range(start, min(start + cholesky.CHUNK, 200)):
            product = weights[k] * rows[k]
            chunk = product if chunk is None else chunk + product
        total = total + chunk
    assert np.array_equal(combine(weights, rows), total)


def test_solves_with_a_factor_match_dense_solutions() -> None:
    """Both triangular solves and the inverse's diagonal agree with numpy's general routines."""
    R = correlations(150, 200, 3)
    factor = factorise(R)
    b = np.random.default_rng(4).normal(size=(150, 3))
    assert factor.rank == 150
    np.testing.assert_allclose(solve_lower(factor.U, b[:, 0]), np.linalg.solve(factor.U.T, b[:, 0]), rtol=1e-9)
    np.testing.assert_allclose(solve_upper(factor.U, b), np.linalg.solve(factor.U, b), rtol=1e-9)
    expected = np.linalg.inv(R).diagonal()[factor.order]
    np.testing.assert_allclose(inverse_diagonal(factor), expected, rtol=1e-9)


@pytest.mark.parametrize("rank", [30, 64, 70, 100])
def test_factorise_beyond_the_exact_size_agrees_and_says_so(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocked algorithm for large matrices finds the same rank and span, and admits that bits may differ."""
    R = correlations(100, rank, 5)
    exact = factorise(R)
    monkeypatch.setattr(cholesky, "EXACT_SIZE", 10)
    monkeypatch.setattr(cholesky, "BLOCK", 32)
    factor = factorise(R)
    assert (exact.bits_may_differ, factor.bits_may_differ) == (False, True)
    assert factor.rank == exact.rank
    assert factor.order.tolist() == exact.order.tolist()
    np.testing.assert_allclose(factor.U, exact.U, atol=1e-10)
    np.testing.assert_allclose(inverse_diagonal(factor), inverse_diagonal(exact), rtol=1e-6)
