"""Fits from statistics against rational arithmetic: the promise of statistics.md, section 4, and its edges."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from gramian.domain.models import cholesky, mlr
from gramian.domain.models.linear import LinearModel, predict
from gramian.domain.models.mlr import fit
from gramian.domain.statistics.derived import covariance, pair_counts
from gramian.domain.statistics.moments import Moments

HOUSING = Path(__file__).parents[4] / "shared" / "data" / "housing_fed3"

FitColumns = Callable[..., LinearModel]


def named(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Columns x00, x01, ... and y."""
    return {**{f"x{i:02d}": column for i, column in enumerate(x.T)}, "y": y}


def error(model: LinearModel, exact, x: np.ndarray, y: np.ndarray) -> float:
    """Largest error of a prediction, as a share of max(|prediction|, sd(y)) as the promise measures it."""
    expected = exact.predict(x)
    return float((np.abs(predict(model, x) - expected) / np.maximum(np.abs(expected), y.std())).max())


@given(
    seed=st.integers(0, 2**32),
    p=st.integers(1, 6),
    log_condition=st.floats(0, 7),
    mean=st.sampled_from([0.0, 1.0, 1e9]),
    spread=st.integers(0, 6),
)
@settings(deadline=None, max_examples=60)
def test_fit_of_conditioned_data_keeps_the_promise(
    fit_columns: FitColumns,
    exact_fit: Callable,
    seed: int,
    p: int,
    log_condition: float,
    mean: float,
    spread: int,
) -> None:
    """While R has no eigenvalue below 1e-7, predictions are within 1e-8 of the rational ones, on any scale,
    and have the digits that the model expects."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(30, p)))
    right, _ = np.linalg.qr(rng.normal(size=(p, p)))
    x = left @ (right * 10 ** (-np.linspace(0, log_condition / 2, p)[:, None]))
    x = x / x.std(axis=0) * 10.0 ** rng.integers(-spread, spread + 1, size=p) + mean
    centred = (x - mean) / x.std(axis=0)
    assume(np.linalg.eigvalsh(np.corrcoef(centred, rowvar=False).reshape(p, p)).min() >= 1e-7)
    y = centred @ rng.normal(size=p) + rng.normal(size=30) + mean
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    assert model.rank == exact.rank == p
    assert error(model, exact, x, y) <= min(1e-8, 10.0**-model.digits)
    assert model.sse == pytest.approx(float(exact.sse), rel=1e-6)


@given(seed=st.integers(0, 2**32), groups=st.integers(2, 5), copies=st.integers(0, 2))
@settings(deadline=None, max_examples=40)
def test_fit_of_collinear_data_is_the_least_norm_fit(
    fit_columns: FitColumns, exact_fit: Callable, seed: int, groups: int, copies: int
) -> None:
    """A full one-hot group and multiples of a column give the rational fit with the least norm of slopes."""
    rng = np.random.default_rng(seed)
    one_hot = np.eye(groups)[np.r_[np.arange(groups), rng.integers(0, groups, 40)]]
    free = np.round(rng.normal(size=(len(one_hot), 2)), 3)
    repeated = [free[:, 0] * 2.0 ** (3 * i + 1) for i in range(copies)]
    x = np.column_stack([one_hot, free, *repeated])
    y = x @ rng.normal(size=x.shape[1]) + rng.normal(size=len(x))
    columns = named(x, y)
    binary = list(columns)[:groups]
    model, exact = fit_columns(columns, "y", binary=binary), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), rtol=1e-9, atol=1e-11)
    assert model.rank == exact.rank == groups + 1
    expected = {*binary, *([f"x{groups:02d}"] if copies else []), *list(columns)[groups + 2 : -1]}
    assert set(model.not_estimable) == expected
    assert error(model, exact, x, y) < 1e-12


def test_fit_of_collinear_groups_on_far_scales_predicts_exactly(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """Rounding in the null space of columns around 1e12 does not spoil the slopes of columns around 1."""
    rng = np.random.default_rng(3)
    one_hot = np.eye(3)[rng.integers(0, 3, 60)]
    a, c = rng.normal(size=(2, 60))
    x = np.column_stack([one_hot, a, a, c * 1e12, c * 2e12])
    y = one_hot @ [1.0, 2.0, 4.0] + a + c + rng.normal(size=60)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), rtol=1e-9)
    assert error(model, exact, x, y) < 1e-12


def test_fit_of_a_faint_dependence_predicts_exactly(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """A null vector with an entry too small to tell from rounding: predictions keep the promise all the same."""
    rng = np.random.default_rng(14)
    a, e = rng.normal(size=(2, 60))
    b, c = np.round(rng.normal(size=(2, 60)) * 4096) / 4096
    x = np.column_stack([a, a + 4e-4 * e, b, c, b + c / 2**24])
    y = a + 5 * b + rng.normal(size=60)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    assert model.rank == exact.rank == 4
    assert error(model, exact, x, y) < 1e-8


def test_fit_of_copies_on_far_scales_has_the_least_norm(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """Where the null space's directions are nearly parallel in the units of slopes, they are told apart."""
    rng = np.random.default_rng(15)
    a = rng.normal(size=40)
    x, y = np.column_stack([a, a * 2**27, a * 2**27, a * 2**26]), a + rng.normal(size=40)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes[1:], list(map(float, exact.slopes[1:])), rtol=1e-6)


def test_fit_of_diabetes_matches_rational_arithmetic(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """Ten inputs of real data, as measured."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), rtol=1e-11)
    assert error(model, exact, x, y) < 1e-13
    assert model.sse == pytest.approx(float(exact.sse), rel=1e-12)


@pytest.mark.skipif(not HOUSING.is_dir(), reason="data set housing_fed3 is not beside the project")
def test_fit_of_pooled_housing_matches_rational_arithmetic(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """The pooled federation data, predicted on its test file."""

    def read(*names: str) -> np.ndarray:
        rows = []
        for name in names:
            with (HOUSING / name).open(newline="") as file:
                rows += list(csv.reader(file))[1:]
        return np.array(rows, dtype=float)

    train, test = read("housing1.csv", "housing2.csv", "housing3.csv"), read("housing_test.csv")
    x, y = train[:, :-1], train[:, -1]
    model, exact = fit_columns(named(x, y), "y", binary=["x03"]), exact_fit(x, y)
    assert error(model, exact, test[:, :-1], y) < 1e-12
    assert (model.n, model.rank, model.complete, model.not_estimable) == (406, 13, True, ())


def test_fit_around_a_large_mean_keeps_its_digits(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """Columns 1e9 + N(0, 1), where raw sums would keep no digit at all."""
    rng = np.random.default_rng(5)
    x = 1e9 + rng.normal(size=(200, 3))
    y = 1e9 + (x - 1e9) @ [1.0, -2.0, 3.0] + rng.normal(size=200)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), rtol=1e-12)
    assert np.abs(predict(model, x) - exact.predict(x)).max() < 5e-7


def test_fit_drops_constants_and_names_them(fit_columns: FitColumns) -> None:
    """Inputs that never vary, of either type, get slope 0 and no error; the others are as without them."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 50))
    columns = {"tenth": np.full(50, 0.1), "all": np.ones(50), "none": np.zeros(50), "x": x, "y": x + y}
    model = fit_columns(columns, "y", binary=["all", "none"])
    alone = fit_columns({"x": x, "y": x + y}, "y")
    assert model.constants == ("tenth", "all", "none")
    assert model.slopes == (0.0, 0.0, 0.0, *alone.slopes)
    assert model.std_errors == (None, None, None, *alone.std_errors)
    assert model.intercept_std_error == alone.intercept_std_error
    assert model.rank == 1


def test_fit_takes_rounding_about_a_far_origin_for_constant(moments_of: Callable[..., Moments]) -> None:
    """Constants kept about another value, as after a merge: what is left of their variance is rounding."""
    values = np.arange(1, 40) / 30
    columns = {f"c{i:02d}": np.full(57, value) for i, value in enumerate(values)}
    moments = moments_of({**columns, "y": np.arange(57.0)}, origin=np.zeros(len(values) + 1))
    model = fit(moments, range(len(values)), len(values))
    assert model.constants == tuple(columns)
    assert set(model.slopes) == {0.0}


def test_fit_of_constant_inputs_only_is_the_mean(fit_columns: FitColumns) -> None:
    """Nothing varies but the target: the model predicts its mean, and the intercept has the mean's error."""
    y = np.array([1.0, 2.0, 6.0])
    model = fit_columns({"x": np.full(3, 7.0), "y": y}, "y")
    assert predict(model, np.array([[7.0], [9.0]])).tolist() == [3.0, 3.0]
    assert model.intercept_std_error == pytest.approx(y.std(ddof=1) / np.sqrt(3))
    assert (model.r2, model.rank, model.df) == (0.0, 0, 2)


@pytest.mark.parametrize("binary", [(), ("y",)])
def test_fit_of_a_constant_target_has_zero_slopes_and_no_r2(fit_columns: FitColumns, binary: tuple[str, ...]) -> None:
    """A target without variance is fitted perfectly by its mean; a share of nothing is not defined."""
    model = fit_columns({"x": np.arange(9.0), "y": np.ones(9)}, "y", binary=binary)
    assert (model.slopes, model.intercept, model.r2, model.adj_r2) == ((0.0,), 1.0, None, None)
    assert (model.sse, model.std_errors) == (0.0, (0.0,))


def test_fit_of_a_linear_target_is_perfect(fit_columns: FitColumns) -> None:
    """Rounding below 1e-13 of the target's sum of squares is not taken for noise."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(50, 3))
    model = fit_columns(named(x, x @ [0.1, 0.2, 0.3] + 0.7), "y")
    assert (model.sse, model.r2, model.std_errors) == (0.0, 1.0, (0.0, 0.0, 0.0))


def test_fit_of_a_binary_target_is_an_ordinary_fit(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """A B target is regressed as the numbers 0 and 1."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(80, 2))
    y = (x[:, 0] + rng.normal(size=80) > 0).astype(float)
    model, exact = fit_columns(named(x, y), "y", binary=["y"]), exact_fit(x, y)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), rtol=1e-12)


@pytest.mark.parametrize(("rows", "df"), [(4, 0), (3, 0), (2, 0), (1, 0), (5, 1)])
def test_fit_of_few_rows_works_but_has_no_errors_without_degrees_of_freedom(
    fit_columns: FitColumns, exact_fit: Callable, rows: int, df: int
) -> None:
    """With no more rows than coefficients the fit goes through the rows; errors exist from one degree on."""
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(rows, 3)), rng.normal(size=rows)
    model, exact = fit_columns(named(x, y), "y"), exact_fit(x, y)
    np.testing.assert_allclose(predict(model, x), exact.predict(x), atol=1e-9)
    np.testing.assert_allclose(model.slopes, list(map(float, exact.slopes)), atol=1e-9)
    assert (model.df, model.rank) == (df, min(3, rows - 1))
    assert all((value is not None) == (df > 0) for value in (*model.std_errors, model.intercept_std_error))
    assert (model.adj_r2 is not None) == (df > 0)


def test_fit_takes_inputs_in_the_order_given(fit_columns: FitColumns) -> None:
    """Inputs and their slopes follow the caller's order, not the canonical one."""
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    forth = fit_columns(named(x, y), "y", ["x00", "x01"])
    back = fit_columns(named(x, y), "y", ["x01", "x00"])
    assert back.inputs == ("x01", "x00")
    np.testing.assert_allclose(back.slopes, forth.slopes[::-1], rtol=1e-13)


@pytest.mark.parametrize(
    ("inputs", "target", "text"),
    [
        ([], 0, "at least one input"),
        ([0, 1], 1, "b is both target and input"),
        ([0, 0], 1, "named twice"),
        ([0, 5], 1, "no attribute"),
        ([-1], 1, "no attribute"),
        ([0], 3, "no attribute"),
        ([2], 0, "gone was never observed"),
        ([0], 2, "gone was never observed"),
    ],
)
def test_fit_of_an_impossible_choice_is_refused(
    moments_of: Callable[..., Moments], inputs: list[int], target: int, text: str
) -> None:
    """The text names what is wrong with the attributes chosen."""
    moments = moments_of({"a": [1.0, 2.0, 4.0], "b": [1.0, 0.0, 1.0], "gone": [np.nan] * 3})
    with pytest.raises(ValueError, match=text):
        fit(moments, inputs, target)


def test_fit_without_rows_is_refused(moments_of: Callable[..., Moments]) -> None:
    """Empty statistics hold nothing to fit."""
    with pytest.raises(ValueError, match="no rows"):
        fit(moments_of({"a": [], "b": []}), [0], 1)


def test_fit_of_attributes_never_seen_together_is_refused(moments_of: Callable[..., Moments]) -> None:
    """A pair without a common row has no covariance."""
    gap = np.nan
    moments = moments_of(
        {"a": [1.0, 2.0, gap, gap], "b": [gap, gap, 1.0, 2.0], "y": [1.0, 2.0, 3.0, 4.0]},
    )
    with pytest.raises(ValueError, match="a and b were never observed together"):
        fit(moments, [0, 1], 2)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_fit_of_few_random_gaps_is_near_the_complete_rows(fit_columns: FitColumns, seed: int) -> None:
    """One value in a hundred missing at random moves slopes by a few standard errors at most, and is said."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1000, 4))
    y = x @ [0.5, -0.5, 0.2, 0.0] + rng.normal(size=1000)
    full = np.column_stack([x, y])
    full[rng.random(full.shape) < 0.01] = np.nan
    rows = full[~np.isnan(full).any(axis=1)]
    model = fit_columns(named(full[:, :-1], full[:, -1]), "y")
    complete = fit_columns(named(rows[:, :-1], rows[:, -1]), "y")
    assert (model.complete, complete.complete, model.shrinkage) == (False, True, 0.0)
    assert len(rows) < model.n < 1000
    np.testing.assert_allclose(model.slopes, complete.slopes, atol=4 * max(complete.std_errors))
    np.testing.assert_allclose(model.std_errors, complete.std_errors, rtol=0.1)


def test_fit_of_columns_without_gaps_ignores_gaps_elsewhere(fit_columns: FitColumns, exact_fit: Callable) -> None:
    """The promise holds where the model's own columns are complete."""
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    holes = np.where(rng.random(60) < 0.5, np.nan, 1.0 * np.arange(60))
    columns = named(x, y)
    model = fit_columns({**columns, "holes": holes}, "y", ["x00", "x01"])
    assert model == fit_columns(columns, "y")
    assert error(model, exact_fit(x, y), x, y) < 1e-13


def test_fit_of_columns_missing_together_is_the_fit_of_the_rows_that_have_them(fit_columns: FitColumns) -> None:
    """Where all the model's columns are missing in the same rows, the others are complete."""
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    holes = rng.random(60) < 0.3
    gappy = fit_columns(named(np.where(holes[:, None], np.nan, x), np.where(holes, np.nan, y)), "y")
    rows = fit_columns(named(x[~holes], y[~holes]), "y")
    assert gappy.complete
    assert gappy.n == (~holes).sum()
    np.testing.assert_allclose(gappy.slopes, rows.slopes, rtol=1e-12)
    np.testing.assert_allclose(gappy.std_errors, rows.std_errors, rtol=1e-12)


def test_fit_of_indefinite_pairwise_correlations_is_shrunk_and_says_so(fit_columns: FitColumns) -> None:
    """Copies of one column with different gaps: correlations no rows could have, yet a usable fit."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=2000)
    y = a + 0.5 * rng.normal(size=2000)
    copies = np.where(rng.random((2000, 3)) < 0.2, np.nan, a[:, None])
    model = fit_columns(named(copies, y), "y")
    assert 0.0 < model.shrinkage < 0.1
    assert sum(model.slopes) == pytest.approx(1.0, abs=0.1)
    assert np.std(predict(model, np.column_stack([a, a, a])) - a) < 0.1


def test_fit_of_shrunk_correlations_follows_the_formula(moments_of: Callable[..., Moments]) -> None:
    """(R + a I) / (1 + a), inputs and target together, gives slopes, r2 and errors by the textbook formulas."""
    rng = np.random.default_rng(2)
    a = rng.normal(size=(300, 1))
    full = np.column_stack([np.where(rng.random((300, 3)) < 0.2, np.nan, a), a + rng.normal(size=(300, 1))])
    moments = moments_of(named(full[:, :3], full[:, 3]))
    model = fit(moments, [0, 1, 2], 3)
    sd = np.sqrt(covariance(moments).diagonal())
    R = (covariance(moments) / (sd[:, None] * sd) + model.shrinkage * np.eye(4)) / (1 + model.shrinkage)
    gamma = np.linalg.solve(R[:3, :3], R[:3, 3])
    r2 = R[:3, 3] @ gamma
    errors = np.sqrt(np.linalg.inv(R[:3, :3]).diagonal() * (1 - r2) / model.df) * sd[3] / sd[:3]
    assert model.shrinkage > 0.0
    assert model.n == pair_counts(moments).min()
    np.testing.assert_allclose(model.slopes, gamma * sd[3] / sd[:3], rtol=1e-10)
    np.testing.assert_allclose(model.std_errors, errors, rtol=1e-10)
    assert model.r2 == pytest.approx(r2, rel=1e-12)


def test_fit_of_a_gappy_one_hot_group_stays_singular(fit_columns: FitColumns) -> None:
    """A category that is missing now and then keeps its exact collinearity: no correction, one rank less."""
    rng = np.random.default_rng(13)
    one_hot = np.eye(3)[rng.integers(0, 3, 300)]
    one_hot[rng.random(300) < 0.2] = np.nan
    x = rng.normal(size=300)
    y = x + np.nan_to_num(one_hot) @ [1.0, 2.0, 4.0] + rng.normal(size=300)
    columns = {"k$a": one_hot[:, 0], "k$b": one_hot[:, 1], "k$c": one_hot[:, 2], "x": x, "y": y}
    model = fit_columns(columns, "y", binary=["k$a", "k$b", "k$c"])
    assert (model.rank, model.shrinkage) == (3, 0.0)
    assert set(model.not_estimable) == {"k$a", "k$b", "k$c"}
    assert sum(model.slopes[:3]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("inputs", "gaps", "differ"), [(3, False, False), (3, True, True), (4, False, True)])
def test_fit_beyond_the_exact_size_says_that_bits_may_differ(
    fit_columns: FitColumns, monkeypatch: pytest.MonkeyPatch, inputs: int, gaps: bool, differ: bool
) -> None:
    """Said for too many inputs, and one input earlier with gaps, where the target's correlations matter, too."""
    for module in (cholesky, mlr):
        monkeypatch.setattr(module, "EXACT_SIZE", 3)
    rng = np.random.default_rng(16)
    x, y = rng.normal(size=(40, inputs)), rng.normal(size=40)
    x[0, 0] = np.nan if gaps else 0.0
    assert fit_columns(named(x, y), "y").bits_may_differ is differ
