"""Exploration against the contract's Iris samples and against plain formulas over rows."""

from __future__ import annotations

import csv
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from gramian.domain.statistics.explore import bivariate, univariate
from gramian.domain.statistics.kernel import accumulate
from gramian.domain.statistics.merge import add, rebase
from gramian.domain.statistics.moments import Array, Moments
from gramian.domain.statistics.schema import Schema
from gramian.domain.statistics.widen import empty

IRIS = Path(__file__).parents[3] / ".." / "shared" / "data" / "iris" / "iris.csv"


@pytest.fixture(scope="module")
def iris() -> tuple[Moments, Array, list[str]]:
    if not IRIS.exists():
        pytest.skip("shared/data/iris is not there")
    with IRIS.open() as file:
        header, *rows = csv.reader(file)
    types = ["C"] * 4 + ["B"] * (len(header) - 4)
    schema = Schema.of(zip(header, types, strict=True))
    x = np.array(rows, dtype=float)[:, [header.index(name) for name in schema.names]]
    m = reduce(add, (accumulate(part, schema) for part in np.array_split(x, 3)))
    return m, x, header


def test_univariate_of_iris_gives_the_contracts_sample(iris: tuple[Moments, Array, list[str]]) -> None:
    """sepal_length, unrounded."""
    m, x, header = iris
    i = m.schema.names.index(header[0])
    result = univariate(m, i)
    sample = {
        "count": 150.0,
        "mean": 5.843333333333334,
        "variance": 0.6811222222222204,
        "skewness": 0.31808651443435426,
        "stddev": 0.8253012917851398,
    }
    for key, value in sample.items():
        assert result[key] == pytest.approx(value, rel=1e-12)
    values = x[:, i]
    assert result["kurtosis"] == pytest.approx(((values - values.mean()) ** 4).mean() / values.var() ** 2, rel=1e-12)
    assert result["stderr"] == pytest.approx(values.std() / np.sqrt(150), rel=1e-12)
    assert result["meanMarginErrorC95"] == pytest.approx(1.96 * values.std() / np.sqrt(150), rel=1e-12)


def test_bivariate_of_iris_gives_the_contracts_sample(iris: tuple[Moments, Array, list[str]]) -> None:
    """sepal_length and petal_width, rounded to 4 digits; the variance under C weights does not follow from sums."""
    m, _, header = iris
    i, j = m.schema.names.index(header[0]), m.schema.names.index(header[3])
    result = bivariate(m, i, j)
    sample = {"linCorr": 0.818, "covar": 0.5135, "condCount": 179.8, "condMean": 6.2717}
    assert {key: round(result[key] or 0, 4) for key in sample} == sample
    assert "condVariance" not in result


def test_bivariate_with_binary_weights_is_the_conditional_distribution(
    iris: tuple[Moments, Array, list[str]],
) -> None:
    """Mean and population variance of the rows where y is 1, for C and B inputs, both ways."""
    m, x, _ = iris
    for i in range(m.size):
        for j in range(m.schema.continuous, m.size):
            chosen = x[x[:, j] == 1, i]
            result = bivariate(m, i, j)
            assert result["condCount"] == len(chosen)
            assert result["condSum"] == pytest.approx(chosen.sum())
            assert result["condMean"] == pytest.approx(chosen.mean(), rel=1e-12)
            assert result["condVariance"] == pytest.approx(chosen.var(), rel=1e-9, abs=1e-12)
            assert result["condStddev"] == pytest.approx(chosen.std(), rel=1e-9, abs=1e-7)


def test_bivariate_of_a_binary_under_continuous_weights_follows_the_formula(
    iris: tuple[Moments, Array, list[str]],
) -> None:
    """sum (xy)^2 = sum x y^2 for a binary x, which is kept."""
    m, x, _ = iris
    for i in range(m.schema.continuous, m.size):
        for j in range(m.schema.continuous):
            xy, y = x[:, i] * x[:, j], x[:, j]
            result = bivariate(m, i, j)
            wanted = (xy**2).sum() / y.sum() - (xy.sum() / y.sum()) ** 2
            assert result["condVariance"] == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_bivariate_with_gaps_uses_the_rows_that_have_both() -> None:
    """Counts, means, covariance and correlation are pairwise."""
    rng = np.random.default_rng(0)
    x = np.column_stack((rng.normal(1e6, 2, (200, 2)), rng.integers(0, 2, 200))).astype(float)
    x[:, 1] += x[:, 0]
    x[rng.random(200) < 0.3, 0] = np.nan
    x[rng.random(200) < 0.3, 2] = np.nan
    m = accumulate(x, Schema(("a", "b", "c"), 2, (0, 1, 2)))
    for i, j in ((0, 1), (1, 0), (0, 2), (2, 0), (1, 2)):
        both = x[~np.isnan(x[:, [i, j]]).any(axis=1)][:, [i, j]]
        result = bivariate(m, i, j)
        wanted = np.cov(both.T, bias=True)
        assert result["covar"] == pytest.approx(wanted[0, 1], rel=1e-9)
        assert result["linCorr"] == pytest.approx(np.corrcoef(both.T)[0, 1], rel=1e-9)
        assert result["condCount"] == pytest.approx(both[:, 1].sum())
        assert result["condMean"] == pytest.approx(both.prod(axis=1).sum() / both[:, 1].sum(), rel=1e-12)


def test_univariate_does_not_depend_on_the_origin() -> None:
    """Third and fourth moments survive an origin a few deviations off."""
    x = np.random.default_rng(0).gamma(2, 1, (500, 1))
    schema = Schema(("a",), 1, (0,))
    m = accumulate(x, schema)
    moved = univariate(rebase(m, m.origin + 8), 0)
    for key, value in univariate(m, 0).items():
        assert moved[key] == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("value", "continuous"), [(0.1, 1), (0.0, 1), (1e9 + 0.1, 1), (0.0, 0), (1.0, 0)])
def test_univariate_without_spread_has_no_skewness(value: float, continuous: int) -> None:
    """Zero variance: shape is null, not 0 / 0."""
    result = univariate(accumulate(np.full((9, 1), value), Schema(("a",), continuous, (0,))), 0)
    assert (result["variance"], result["stderr"]) == (0.0, 0.0)
    assert result["skewness"] is None
    assert result["kurtosis"] is None


@pytest.mark.parametrize("n", [1, 2])
def test_univariate_of_one_or_two_rows_has_no_skewness(n: int) -> None:
    """The bias correction divides by (n - 1)(n - 2)."""
    result = univariate(accumulate(np.arange(float(n))[:, None], Schema(("a",), 1, (0,))), 0)
    assert result["skewness"] is None
    assert result["count"] == n


def test_exploration_without_rows_is_null() -> None:
    """Counts are 0, the rest is unknown; conditions that no row meets likewise."""
    nothing = empty(Schema(("a", "b"), 1, (0, 1)))
    assert {key for key, value in univariate(nothing, 0).items() if value is not None} == {"count"}
    result = bivariate(nothing, 0, 1)
    assert (result["covar"], result["condMean"], result["condVariance"]) == (None, None, None)
    never = accumulate(np.array([[1.0, 0.0], [2.0, 0.0]]), Schema(("a", "b"), 1, (0, 1)))
    result = bivariate(never, 0, 1)
    assert (result["condCount"], result["condMean"], result["condStddev"], result["linCorr"]) == (0, None, None, None)
