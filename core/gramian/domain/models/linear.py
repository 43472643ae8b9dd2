"""The record of a fitted linear model: prediction, and JSON that is equal byte for byte on every node.

It holds what the statistics give by plain arithmetic. Scores, p-values and confidence limits need a distribution
function, whose last digits differ between machines; `inference` adds them when they are shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import msgspec
import numpy as np

from gramian.domain import typed
from gramian.domain.statistics.moments import Array

VERSION = 1


@dataclass(frozen=True, slots=True)
class LinearModel:
    """target = mean + sum over inputs of slope ((x - origin) - offset), where origin + offset is an input's mean.

    Per-input tuples are aligned with `inputs`. The sum b0 + sum of slope x would lose the digits of large means, so
    the model is kept centred.
    """

    target: str
    inputs: tuple[str, ...]
    n: int
    """Rows; with missing values, the fewest rows that any two of the model's attributes share."""
    rank: int
    """Independent inputs."""
    origin: tuple[float, ...]
    offset: tuple[float, ...]
    slopes: tuple[float, ...]
    target_origin: float
    target_offset: float
    std_errors: tuple[float | None, ...]
    """None for constants, where the slope is not estimable, and throughout without degrees of freedom."""
    intercept_std_error: float | None
    sse: float
    """Sum of squared residuals; 0 for a perfect fit."""
    sst: float
    """Sum of squares of the target about its mean; 0 for a constant target."""
    digits: int
    """Decimal digits of the predictions to expect, judged from the last pivot."""
    complete: bool
    """No missing values among the model's attributes: equal to the fit on the pooled rows."""
    shrinkage: float
    """a, where pairwise correlations R were indefinite and (R + a I) / (1 + a) was used instead; else 0."""
    constants: tuple[str, ...]
    """Inputs that never vary; their slopes are 0."""
    not_estimable: tuple[str, ...]
    """Inputs whose slope the data leave open; they have the one of the least-norm solution."""
    bits_may_differ: bool
    """Too many inputs for the bit-identical algorithm."""

    @property
    def df(self) -> int:
        """Degrees of freedom of the residuals; 0 or less: no errors can be given."""
        return self.n - 1 - self.rank

    @property
    def target_mean(self) -> float:
        return self.target_origin + self.target_offset

    @property
    def intercept(self) -> float:
        """The prediction where every input is 0: for display, see the class."""
        products = [-slope * value for slope, value in zip(self.slopes, self.origin, strict=True)]
        products += [-slope * value for slope, value in zip(self.slopes, self.offset, strict=True)]
        return math.fsum([self.target_origin, self.target_offset, *products])

    @property
    def r2(self) -> float | None:
        """Coefficient of determination; None for a constant target."""
        return 1.0 - self.sse / self.sst if self.sst > 0.0 else None

    @property
    def adj_r2(self) -> float | None:
        """r2 corrected for the degrees of freedom; None without any."""
        if self.sst == 0.0 or self.df <= 0:
            return None
        return 1.0 - (self.sse / self.df) / (self.sst / (self.n - 1))


def predict(model: LinearModel, x: Array) -> Array:
    """Predictions (n,) for rows x (n, number of inputs), columns in the order of `model.inputs`.

    A missing value (NaN) counts as the column's mean. A row's prediction does not depend on the other rows.
    Raises ValueError for another shape and for infinities.
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(model.inputs):
        raise ValueError(f"rows need {len(model.inputs)} columns, in the order of the model's inputs")
    if np.isinf(x).any():
        raise ValueError("a value to predict from is infinite")
    deviation = np.zeros(len(x))
    for column, origin, offset, slope in zip(x.T, model.origin, model.offset, model.slopes, strict=True):
        centred = (column - origin) - offset
        deviation += slope * np.where(np.isnan(centred), 0.0, centred)
    return model.target_origin + (model.target_offset + deviation)


def to_json(model: LinearModel) -> dict[str, Any]:
    """A JSON object without non-finite numbers; `from_json` restores the model exactly."""
    values = {field.name: getattr(model, field.name) for field in fields(model)}
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {"version": VERSION, **plain}


def from_json(value: object) -> LinearModel:
    """The model of `to_json`. Raises ValueError for anything else."""
    names = {field.name for field in fields(LinearModel)}
    if not isinstance(value, dict) or set(value) != names | {"version"}:
        raise ValueError("not a linear model")
    if value["version"] != VERSION:
        raise ValueError(f"linear model of version {value['version']!r}; this release reads {VERSION}")
    try:
        model = typed.convert({name: value[name] for name in names}, LinearModel)
    except msgspec.ValidationError as error:
        raise ValueError(f"not a linear model: {error}") from error
    _check(model)
    return model


def _check(model: LinearModel) -> None:
    """Raise ValueError unless the fields fit each other."""
    count = len(model.inputs)
    known = set(model.inputs)
    per_input = (model.origin, model.offset, model.slopes, model.std_errors)
    if len(known) != count or model.target in known or any(len(values) != count for values in per_input):
        raise ValueError("linear model: inputs and their values do not match")
    if not known.issuperset(model.constants) or not known.issuperset(model.not_estimable):
        raise ValueError("linear model: a note names an attribute that is no input")
    errors = [error for error in (*model.std_errors, model.intercept_std_error) if error is not None]
    not_negative = (*errors, model.sse, model.sst, model.shrinkage)
    numbers = (*model.origin, *model.offset, *model.slopes, model.target_origin, model.target_offset)
    if not all(map(math.isfinite, (*numbers, *not_negative))) or any(number < 0.0 for number in not_negative):
        raise ValueError("linear model: a number is out of range")
    if model.n < 1 or not 0 <= model.rank <= count or model.digits < 0:
        raise ValueError("linear model: a count is out of range")
