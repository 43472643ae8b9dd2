"""Scores, p-values and confidence limits of a linear model's coefficients (normal errors, two-sided t tests)."""

from __future__ import annotations

from dataclasses import dataclass

from gramian.domain.models.linear import LinearModel

INTERCEPT = "(Intercept)"
COLUMNS = ["attribute", "coefficient", "std.error", "scores", "p.values", "ci.low", "ci.high"]
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One coefficient. What cannot be given is None: see `LinearModel.std_errors`; a perfect fit has no score."""

    attribute: str
    value: float
    std_error: float | None
    score: float | None
    p_value: float | None
    ci_low: float | None
    ci_high: float | None


def coefficients(model: LinearModel) -> list[Coefficient]:
    """The intercept, then every input. Score: value / std_error; limits at CONFIDENCE."""
    values = (model.intercept, *model.slopes)
    std_errors = (model.intercept_std_error, *model.std_errors)
    return [
        _coefficient(name, value, std_error, model.df)
        for name, value, std_error in zip((INTERCEPT, *model.inputs), values, std_errors, strict=True)
    ]


def _coefficient(name: str, value: float, std_error: float | None, df: int) -> Coefficient:
    from scipy.special import stdtr, stdtrit  # here, since it is slow to import and only display needs it

    if std_error is None:
        return Coefficient(name, value, None, None, None, None, None)
    reach = float(stdtrit(df, (1.0 + CONFIDENCE) / 2.0)) * std_error
    low, high = value - reach, value + reach
    if std_error == 0.0:
        return Coefficient(name, value, std_error, None, None, low, high)
    score = value / std_error
    return Coefficient(name, value, std_error, score, 2.0 * float(stdtr(df, -abs(score))), low, high)


def coefficient_table(model: LinearModel) -> tuple[list[str], list[list[str]]]:
    """COLUMNS and one row of texts per coefficient: all digits, an empty text for what cannot be given."""
    rows = [
        [
            row.attribute,
            *map(_text, (row.value, row.std_error, row.score, row.p_value, row.ci_low, row.ci_high)),
        ]
        for row in coefficients(model)
    ]
    return list(COLUMNS), rows


def _text(number: float | None) -> str:
    return "" if number is None else repr(number)
