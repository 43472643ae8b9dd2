"""The wire DataFrame: every spelling of a cell, every shape that is wrong, and the time it takes."""

from __future__ import annotations

import json
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gramian.domain import frame
from gramian.errors import InvalidRequest


def body(rows: object, names: list[str] | None = None, types: list[str] | None = None, **more: object) -> bytes:
    names = names or ["a", "b"]
    return json.dumps(
        {"attributeNames": names, "attributeTypes": types or ["C"] * len(names), "data": rows} | more
    ).encode()


def matrix(data: bytes) -> np.ndarray:
    decoded = frame.decode(data)
    return decoded.matrix([name for name, _ in decoded.numeric()])


def test_decode_contract_learn_body() -> None:
    """Section 9.8."""
    decoded = frame.decode(
        b'{"attributeNames":["sepal_length","sepal_width","petal_length"],'
        b'"data":[["4.3","3","1.1"]],"attributeTypes":["C","C","C"]}'
    )
    assert decoded.names == ("sepal_length", "sepal_width", "petal_length")
    assert decoded.matrix(["petal_length", "sepal_length"]).tolist() == [[1.1, 4.3]]


def test_decode_unknown_keys_and_small_letters_are_fine() -> None:
    """The Rust client sends errorHandling; some docs write types in lower case."""
    decoded = frame.decode(body([["1", "0"]], types=["c", "b"], errorHandling=1, more={"x": [[]]}))
    assert decoded.numeric() == (("a", "C"), ("b", "B"))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1", 1.0),
        ("-0.5e-3", -0.0005),
        ("1E5", 1e5),
        ("+1", 1.0),
        (".5", 0.5),
        ("5.", 5.0),
        (" 1 ", 1.0),
        ("007", 7.0),
        ("1e-400", 0.0),
        ("0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("", np.nan),
        ("NaN", np.nan),
        ("nan", np.nan),
        ("NAN", np.nan),
        ("\t", np.nan),
        (None, np.nan),
        (1, 1.0),
        (1.5, 1.5),
        (2**70, 2.0**70),
        (True, 1.0),
        (False, 0.0),
    ],
)
def test_matrix_cell_spelling_gives_value(cell: object, value: float) -> None:
    """Also beside texts with quotes at their ends, which look like gaps."""
    np.testing.assert_array_equal(matrix(body([[cell, "2"], ["3", ""]])), [[value, 2], [3, np.nan]])
    data = body([[cell, 'a"'], ["", '"'], ["", '\\"\\'], ["", '""']], types=["C", "X"])
    np.testing.assert_array_equal(matrix(data), [[value], [np.nan], [np.nan], [np.nan]])


@pytest.mark.parametrize(
    "cell",
    [
        "x",
        "1_0",
        "٣",
        "0x10",
        "1,5",
        "1 2",
        "--1",
        "1e",
        "e5",
        ".",
        "-",
        "null",
        "NA",
        "true",
        "nan1",
        "\x00",
        "\uff11",
        [],
        {},
        [1],
    ],
)
def test_matrix_text_in_numeric_column_names_the_cell(cell: object) -> None:
    """Row, counted from 1, and attribute."""
    with pytest.raises(InvalidRequest, match=r"^row 2, attribute 'b': .* is not a number$"):
        matrix(body([["1", "2"], ["1", cell]]))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999", "-1e999", "2e308", 10**400, "9" * 400])
def test_matrix_infinite_cell_is_refused(cell: object) -> None:
    """By whatever way it became infinite. `inf` as a word is text."""
    with pytest.raises(InvalidRequest, match=r"row 2, attribute 'b': .*(not finite|not a number)|out of range"):
        matrix(body([["1", "2"], ["1", cell]]))


def test_matrix_refused_text_is_shown_short_and_escaped() -> None:
    """A message is no place for a megabyte, or for line breaks in a log."""
    with pytest.raises(InvalidRequest) as caught:
        matrix(body([["x" + "\n" * 1_000_000, "1"]]))
    assert len(str(caught.value)) < 150
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["9" * 10**6 + "x", "0." + "9" * 10**6 + "x", " " * 10**6 + "x", "1e" + "9" * 10**6])
def test_matrix_long_cell_takes_linear_time(cell: str) -> None:
    """One cell of a megabyte is refused as quickly as it was read."""
    data = body([[cell, "1"]])
    started = time.perf_counter()
    with pytest.raises(InvalidRequest):
        matrix(data)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize("types", [["C", "B"], ["B", "B"]])
def test_matrix_binary_takes_one_zero_and_gaps(types: list[str]) -> None:
    """As integers, doubles, booleans; nothing else."""
    rows = [["1", "1.0"], ["0", "0.0"], ["0", ""], ["1", "NaN"], [1, True]]
    expected = [[1, 1], [0, 0], [0, np.nan], [1, np.nan], [1, 1]]
    np.testing.assert_array_equal(matrix(body(rows, types=types)), expected)
    with pytest.raises(InvalidRequest, match=r"row 2, attribute 'b': 0\.5 is neither 1 nor 0"):
        matrix(body([["1", "1"], ["1", "0.5"]], types=types))


def test_matrix_reads_only_named_columns() -> None:
    """X is never converted, and neither is what nobody asks for."""
    decoded = frame.decode(body([["x", "1", "y"], [None, "2", "3"]], ["a", "b", "c"], ["X", "C", "C"]))
    assert decoded.matrix(["b"]).tolist() == [[1], [2]]
    assert decoded.matrix([]).shape == (2, 0)
    with pytest.raises(InvalidRequest, match="'y' is not a number"):
        decoded.matrix(["b", "c"])
    with pytest.raises(InvalidRequest, match="type X"):
        decoded.matrix(["a"])
    with pytest.raises(InvalidRequest, match="no attribute 'd'"):
        decoded.matrix(["d"])


def test_as_numbers_takes_every_column_as_c() -> None:
    """Prediction does not mind the types that its sender gave."""
    decoded = frame.decode(body([["1", "2"]], types=["X", "B"])).as_numbers()
    assert decoded.matrix(["a", "b"]).tolist() == [[1, 2]]


def test_numeric_all_ignored_is_refused() -> None:
    """A frame of X only has nothing to learn."""
    with pytest.raises(InvalidRequest, match="nothing to use"):
        frame.decode(body([], types=["X", "X"])).numeric()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([["1", "2"], ["1"]], "^row 2 has 1 cells for 2 attributes$"),
        ([["1", "2", "3"]], "^row 1 has 3 cells for 2 attributes$"),
        ([["1", "2"], []], "^row 2 has 0 cells"),
        ([["1", "2"], "12"], "^row 2 is not a list of cells$"),
        ([["1", "2"], None], "^row 2 is not a list of cells$"),
        ({"a": 1}, "^data must be a list of rows$"),
        ("12", "^data must be a list of rows$"),
        (None, "^data must be a list of rows$"),
    ],
)
def test_matrix_ragged_or_shapeless_data_is_refused(rows: object, text: str) -> None:
    """By row number, whatever columns are asked for."""
    for types in (["C", "C"], ["C", "X"]):
        with pytest.raises(InvalidRequest, match=text):
            matrix(body(rows, types=types))


def test_matrix_no_rows_has_no_rows() -> None:
    """Empty data is a frame, too."""
    assert matrix(body([])).shape == (0, 2)


@pytest.mark.parametrize("kind", ["T", "S", "L", "P", "-", "CC", "", "t", "\n"])
def test_decode_unsupported_type_is_named(kind: str) -> None:
    """And so are those that exist."""
    with pytest.raises(InvalidRequest, match=r"attribute 'b' has type .*C \(a number\), B \(1 or 0\), X \(ignored\)$"):
        frame.decode(body([], types=["C", kind]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"attributeNames":["a"],"attributeTypes":["C"]}',
        b'{"attributeNames":"a","attributeTypes":["C"],"data":[]}',
        b'{"attributeNames":["a"],"attributeTypes":[1],"data":[]}',
        b'{"attributeNames":["a"],"attributeTypes":["C","C"],"data":[]}',
        b'{"attributeNames":["a","a"],"attributeTypes":["C","C"],"data":[]}',
        b'{"attributeNames":[],"attributeTypes":[],"data":[]}',
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":[["1"]]',
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":[["1"}}',
        b'{"attributeNames":["\xff"],"attributeTypes":["C"],"data":[]}',
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":[["\xff"]]}',
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":[["\\ud800"]]}',
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":' + b"[" * 1_000_000,
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"attributeNames":["a"],"attributeTypes":["C"],"data":[[' + b"9" * 5000 + b"]]}",
    ],
    ids=lambda data: data[:60].decode(errors="replace"),
)
def test_decode_malformed_is_refused(data: bytes) -> None:
    """With InvalidRequest, at the latest when the numbers are asked for."""
    with pytest.raises(InvalidRequest):
        matrix(data)


def test_decode_contract_leniencies_are_accepted() -> None:
    """Trailing commas and bare words, also as cells."""
    data = b'{"attributeNames":["a","b",],"attributeTypes":["C","C"],"data":[["1",NaN,],["",2],],}'
    np.testing.assert_array_equal(matrix(data), [[1, np.nan], [np.nan, 2]])
    with pytest.raises(InvalidRequest, match="row 1, attribute 'b': the number is not finite"):
        matrix(data.replace(b"NaN", b"Infinity"))


CELLS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**20), 10**20),
    st.none(),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["", "NaN", "+1", " 2", "1e5", "-.5"]),
)


@given(st.lists(st.tuples(CELLS, CELLS, st.text(max_size=5)), max_size=12), st.booleans())
@settings(deadline=None)
def test_matrix_equals_float_of_every_cell(rows: list[tuple], with_x: bool) -> None:
    """The quick way and the careful one give the bits that Python's float gives."""
    data = body([list(row) for row in rows], ["a", "b", "x"], ["C", "C", "X"])
    expected = [[float(cell) if cell not in ("", None) else np.nan for cell in row[:2]] for row in rows]
    np.testing.assert_array_equal(matrix(data), np.array(expected, float).reshape(len(rows), 2))


@given(st.lists(st.lists(st.text(alphabet='01.e-+"\\ naNif,[]', max_size=6), min_size=2, max_size=2), max_size=6))
@settings(deadline=None, max_examples=300)
def test_matrix_arbitrary_cells_read_or_refuse(rows: list[list[str]]) -> None:
    """No cell gives another exception, and what is read is what float reads."""
    try:
        result = matrix(body(rows))
    except InvalidRequest:
        return
    expected = [[float(cell.strip() or "nan") for cell in row] for row in rows]
    np.testing.assert_array_equal(result, np.array(expected).reshape(len(rows), 2))


def test_matrix_is_faster_than_rows_of_text() -> None:
    """4 MB; usually three times as fast as decoding to text and letting numpy convert."""
    rows = [[repr(value) for value in row] for row in np.random.default_rng(1).normal(size=(9000, 20)).tolist()]
    data = body(rows, [f"a{i}" for i in range(20)])
    slow, result = _best_time(lambda: np.array(msgspec.json.decode(data)["data"], float))
    quick, mine = _best_time(lambda: matrix(data))
    np.testing.assert_array_equal(mine, result)
    assert quick < slow


def _best_time(run: object) -> tuple[float, np.ndarray]:
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - started)
    return best, result
