"""Certified results of NIST's Statistical Reference Datasets for linear regression (public domain).

https://www.itl.nist.gov/div898/strd/lls/lls.shtml. Digits are -log10 of the largest relative error of a coefficient.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import statsmodels.datasets.longley

from gramian.domain.models.linear import LinearModel, predict

FitColumns = Callable[..., LinearModel]

LONGLEY = [
    (-3482258.63459582, 890420.383607373),
    (15.0618722713733, 84.9149257747669),
    (-0.358191792925910e-01, 0.334910077722432e-01),
    (-2.02022980381683, 0.488399681651699),
    (-1.03322686717359, 0.214274163161675),
    (-0.511041056535807e-01, 0.226073200069370),
    (1829.15146461355, 455.478499142212),
]
WAMPLER_NOISE = [
    *(759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048),
    *(-2048, 1838, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 759),
]
WAMPLER_ERRORS = [
    21523262.4678170,
    23635517.3469681,
    7793435.24331583,
    1014755.07550350,
    56456.6512170752,
    1123.24854679312,
]
"""Standard errors of Wampler5; those of Wampler4 and 3 are 1e-2 and 1e-4 of them."""


def digits(found: Sequence[float], certified: Sequence[float]) -> float:
    """Decimal digits that the worst of the numbers has right."""
    error = np.abs(np.array(found) - certified) / np.abs(certified)
    return float(-np.log10(max(error.max(), 1e-16)))


def powers(x: np.ndarray, degree: int) -> dict[str, np.ndarray]:
    """Columns x1 ... x<degree>."""
    return {f"x{k}": x**k for k in range(1, degree + 1)}


def test_fit_of_longley_has_eleven_digits(fit_columns: FitColumns) -> None:
    """Seven macroeconomic series, nearly collinear, with their standard errors and r2."""
    data = statsmodels.datasets.longley.load_pandas()
    model = fit_columns({**{name: data.exog[name] for name in data.exog}, "y": data.endog}, "y")
    values, errors = zip(*LONGLEY, strict=True)
    assert digits([model.intercept, *model.slopes], values) >= 11
    assert digits([model.intercept_std_error, *model.std_errors], errors) >= 11
    assert model.r2 == pytest.approx(0.995479004577296, abs=1e-13)
    assert np.sqrt(model.sse / model.df) == pytest.approx(304.854073561965, rel=1e-11)


@pytest.mark.parametrize(
    ("noise", "r2"),
    [(0, 1.0), (1, 0.999995559025820), (100, 0.957478440825662), (10000, 0.224668921574940e-2)],
    ids=["Wampler1", "Wampler3", "Wampler4", "Wampler5"],
)
def test_fit_of_wampler_polynomials_has_six_digits(fit_columns: FitColumns, noise: int, r2: float) -> None:
    """y = 1 + x + ... + x^5 on 0 to 20, with noise between none and nearly everything."""
    x = np.arange(21.0)
    columns = powers(x, 5)
    model = fit_columns({**columns, "y": 1 + sum(columns.values()) + noise * np.array(WAMPLER_NOISE)}, "y")
    assert digits([model.intercept, *model.slopes], [1.0] * 6) >= 6
    assert model.r2 == pytest.approx(r2, rel=1e-9)
    if noise:
        errors = np.array(WAMPLER_ERRORS) * (noise / 10000)
        assert digits([model.intercept_std_error, *model.std_errors], errors) >= 9
    else:
        assert model.sse == 0.0


def test_fit_of_wampler2_has_nine_digits(fit_columns: FitColumns) -> None:
    """y = the sum of (x/10)^k for k to 5, given to five decimals: exact."""
    certified = 10.0 ** -np.arange(6)
    x = range(21)
    y = [sum(10 ** (5 - k) * v**k for k in range(6)) / 100_000 for v in x]
    model = fit_columns({**powers(np.array(x, dtype=float), 5), "y": np.array(y)}, "y")
    assert digits([model.intercept, *model.slopes], certified) >= 9.5
    assert model.sse == 0.0


def test_fit_of_filip_admits_that_its_coefficients_mean_nothing(fit_columns: FitColumns) -> None:
    """A tenth-degree polynomial beyond what float64 moments can hold: flagged, and still a close curve."""
    with Path(__file__).with_name("filip.csv").open(newline="") as file:
        y, x = np.array(list(csv.reader(file))[1:], dtype=float).T
    model = fit_columns({**powers(x, 10), "y": y}, "y")
    assert model.rank < 10
    assert model.digits <= 5
    assert model.not_estimable
    assert 0.99 < model.r2 < 0.9968
    residuals = y - predict(model, np.column_stack(list(powers(x, 10).values())))
    assert residuals.var() < 0.01 * y.var()
