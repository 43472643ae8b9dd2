"""Errors, scores, p-values, limits and r2 against statsmodels; the coefficient table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.models.inference import COLUMNS, coefficient_table, coefficients
from gramian.domain.models.linear import LinearModel

FitColumns = Callable[..., LinearModel]


@given(seed=st.integers(0, 2**32), p=st.integers(1, 8), spare=st.integers(1, 60))
@settings(deadline=None, max_examples=40)
def test_coefficients_of_full_rank_data_match_statsmodels(
    fit_columns: FitColumns, seed: int, p: int, spare: int
) -> None:
    """Everything an analyst reads off a regression table, intercept included, down to one degree of freedom."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(p + 1 + spare, p)) + 10 * rng.normal(size=p)
    y = x @ rng.normal(size=p) + 2 * rng.normal(size=len(x)) + 5
    model = fit_columns({**{f"x{i}": x[:, i] for i in range(p)}, "y": y}, "y")
    reference = sm.OLS(y, sm.add_constant(x, has_constant="add")).fit()
    rows = coefficients(model)
    close = {"rtol": 1e-6, "atol": 1e-9}
    np.testing.assert_allclose([row.value for row in rows], reference.params, **close)
    np.testing.assert_allclose([row.std_error for row in rows], reference.bse, **close)
    np.testing.assert_allclose([row.score for row in rows], reference.tvalues, **close)
    np.testing.assert_allclose([row.p_value for row in rows], reference.pvalues, **close)
    np.testing.assert_allclose([(row.ci_low, row.ci_high) for row in rows], reference.conf_int(), **close)
    assert model.r2 == pytest.approx(reference.rsquared, abs=1e-9)
    assert model.adj_r2 == pytest.approx(reference.rsquared_adj, abs=1e-7)
    assert model.df == reference.df_resid


def test_coefficients_of_collinear_inputs_are_null_only_where_open(fit_columns: FitColumns) -> None:
    """A slope that the data leave open has no error; the rest is as if the redundant column were not there."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 50))
    y = a + b + rng.normal(size=50)
    both = coefficients(fit_columns({"a": a, "a3": 3 * a + 1, "b": b, "y": y}, "y"))
    once = coefficients(fit_columns({"a": a, "b": b, "y": y}, "y"))
    assert [row.std_error is None for row in both] == [True, True, True, False]
    assert (both[1].score, both[1].p_value, both[1].ci_low, both[1].ci_high) == (None,) * 4
    assert both[3].std_error == pytest.approx(once[2].std_error, rel=1e-12)
    assert both[3].p_value == pytest.approx(once[2].p_value, rel=1e-9)


def test_intercept_of_a_collinear_pair_with_equal_means_has_an_error(fit_columns: FitColumns) -> None:
    """Moving along a - a' leaves the intercept where it is, so it stays estimable."""
    rng = np.random.default_rng(2)
    a, noise = rng.normal(size=(2, 50)) + 4
    twice = coefficients(fit_columns({"a": a, "b": a, "y": a + noise}, "y"))[0]
    once = coefficients(fit_columns({"a": a, "y": a + noise}, "y"))[0]
    assert twice.value == pytest.approx(once.value, rel=1e-12)
    assert twice.std_error == pytest.approx(once.std_error, rel=1e-12)


def test_coefficient_table_has_the_contract_columns_and_full_precision(fit_columns: FitColumns) -> None:
    """Texts restore the numbers exactly; the intercept comes first; what cannot be given is empty."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 30))
    model = fit_columns({"x": x, "flat": np.ones(30), "y": y}, "y")
    columns, rows = coefficient_table(model)
    assert columns == ["attribute", "coefficient", "std.error", "scores", "p.values", "ci.low", "ci.high"]
    assert columns is not COLUMNS
    assert [row[0] for row in rows] == ["(Intercept)", "x", "flat"]
    assert [float(row[1]) for row in rows] == [model.intercept, *model.slopes]
    assert float(rows[1][2]) == model.std_errors[0]
    assert rows[2][1:] == ["0.0", "", "", "", "", ""]


def test_coefficient_table_of_a_perfect_fit_has_no_scores(fit_columns: FitColumns) -> None:
    """Without residuals the limits meet at the coefficient, and t and p are undefined."""
    x = np.arange(10.0)
    _, rows = coefficient_table(fit_columns({"x": x, "y": 2 * x + 1}, "y"))
    assert rows == [
        ["(Intercept)", "1.0", "0.0", "", "", "1.0", "1.0"],
        ["x", "2.0", "0.0", "", "", "2.0", "2.0"],
    ]
