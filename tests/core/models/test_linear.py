"""The model record: prediction and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain.canonical import canonical_json
from gramian.domain.models.linear import LinearModel, from_json, predict, to_json


@pytest.fixture(scope="module")
def model(fit_columns: Callable[..., LinearModel]) -> LinearModel:
    """A fit with a constant, a collinear pair and an ordinary input."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    columns = {"a": a, "a2": 2 * a, "b": b + 1e6, "c": np.full(40, 3.0), "y": a - b + rng.normal(size=40)}
    return fit_columns(columns, "y")


def test_predict_of_a_missing_value_takes_the_column_mean(model: LinearModel) -> None:
    """NaN predicts as the mean of its column, and a row of NaN as the mean of the target."""
    mean_b = model.origin[2] + model.offset[2]
    row = [0.5, 1.0, np.nan, 3.0]
    filled = [0.5, 1.0, mean_b, 3.0]
    expected = predict(model, np.array([filled]))
    np.testing.assert_allclose(predict(model, np.array([row])), expected, atol=1e-9)
    assert predict(model, np.full((1, 4), np.nan)).tolist() == [model.target_mean]


def test_predict_of_a_row_does_not_depend_on_its_batch(model: LinearModel) -> None:
    """A row alone has the same bits as among others."""
    x = np.random.default_rng(1).normal(size=(50, 4)) + np.array([0, 0, 1e6, 3])
    together = predict(model, x)
    assert all(predict(model, x[i : i + 1])[0] == together[i] for i in range(50))
    assert predict(model, np.asfortranarray(x)).tolist() == together.tolist()
    assert predict(model, x[:0]).shape == (0,)


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4)])
def test_predict_of_another_shape_is_refused(model: LinearModel, shape: tuple[int, ...]) -> None:
    """Rows must have one column per input."""
    with pytest.raises(ValueError, match="rows need 4 columns"):
        predict(model, np.zeros(shape))


def test_predict_of_an_infinite_value_is_refused(model: LinearModel) -> None:
    """An infinity would silently become NaN where a slope is 0."""
    with pytest.raises(ValueError, match="infinite"):
        predict(model, np.array([[0.0, 0.0, 0.0, -np.inf]]))


def test_intercept_is_the_prediction_at_zero(model: LinearModel) -> None:
    """The coefficient for display agrees with the centred form, up to the digits that a large mean costs."""
    assert model.intercept == pytest.approx(predict(model, np.zeros((1, 4)))[0], rel=1e-12)


def test_json_of_a_model_restores_it_exactly(model: LinearModel) -> None:
    """Every float survives the text, nulls stay nulls, and nothing is non-finite."""
    text = canonical_json(to_json(model))
    assert from_json(json.loads(text)) == model
    assert canonical_json(to_json(from_json(json.loads(text)))) == text
    assert None in model.std_errors


@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=12, max_size=12),
    sse=st.floats(0, 1e300),
)
@settings(deadline=None, max_examples=50)
def test_json_of_any_finite_numbers_restores_them(model: LinearModel, values: list[float], sse: float) -> None:
    """The round trip is exact for the whole range of float64."""
    odd = replace(model, slopes=tuple(values[:4]), origin=tuple(values[4:8]), offset=tuple(values[8:]), sse=sse)
    assert from_json(json.loads(canonical_json(to_json(odd)))) == odd


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, "version 2"),
        ({"extra": 1}, "not a linear model"),
        ({"n": 0}, "count"),
        ({"n": "40"}, "not a linear model"),
        ({"rank": 5}, "count"),
        ({"digits": -1}, "count"),
        ({"slopes": [1.0]}, "do not match"),
        ({"inputs": ["a", "a", "b", "c"]}, "do not match"),
        ({"target": "a"}, "do not match"),
        ({"slopes": [1.0, 2.0, float("nan"), 4.0]}, "out of range"),
        ({"origin": [1.0, 2.0, float("inf"), 4.0]}, "out of range"),
        ({"slopes": [1.0, 2.0, None, 4.0]}, "not a linear model"),
        ({"std_errors": [1.0, 2.0, -3.0, 4.0]}, "out of range"),
        ({"sse": -1.0}, "out of range"),
        ({"sst": None}, "not a linear model"),
        ({"complete": 1}, "not a linear model"),
        ({"constants": ["z"]}, "no input"),
        ({"not_estimable": ["z"]}, "no input"),
    ],
)
def test_from_json_of_an_altered_model_is_refused(model: LinearModel, change: dict[str, Any], text: str) -> None:
    """Unknown keys, wrong types, lengths that differ and numbers out of range are all named."""
    with pytest.raises(ValueError, match=text):
        from_json({**to_json(model), **change})


@pytest.mark.parametrize("value", [None, [], "model", 1, {}, {"version": 1}])
def test_from_json_of_anything_else_is_refused(value: object) -> None:
    """What is no model object at all gets the same plain text."""
    with pytest.raises(ValueError, match="not a linear model"):
        from_json(value)
