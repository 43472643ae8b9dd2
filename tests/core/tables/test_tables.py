"""Files of rows: what is read of them, from any position on, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gramian.domain.tables import csv_table, json_table, table
from gramian.domain.tables.table import Position, choose, infer_type, open_table
from gramian.errors import InvalidRequest, TooLarge

Columns = Sequence[tuple[str, str]]


def opened(kind: str, data: bytes) -> table.Table:
    return open_table(kind, io.BytesIO(data), len(data))


def read(found: table.Table, columns: Columns, start: Position = Position()) -> tuple[np.ndarray, list[Position]]:  # noqa: B008
    chunks = list(found.chunks(columns, start))
    rows = np.concatenate([chunk.rows for chunk in chunks]) if chunks else np.empty((0, len(columns)))
    return rows, [chunk.end for chunk in chunks]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3 rows."""
    monkeypatch.setattr(table, "LEAST_ROWS", 3)
    monkeypatch.setattr(table, "CHUNK_ROWS", 3)


def parquet_of(columns: dict[str, object], **options: object) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


cell = st.one_of(st.floats(allow_nan=False, allow_infinity=False, width=64), st.none())


@given(
    rows=st.lists(st.lists(cell, min_size=3, max_size=3), max_size=12),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    newline=st.sampled_from(["\n", "\r\n"]),
    note=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
)
def test_csv_read_from_any_chunks_end_gives_the_rest(rows, quoting, newline, note) -> None:
    """Bit for bit, beside a column of any text: quotes, commas and line feeds do not move the position."""
    text = io.StringIO(newline="")
    # Some releases of Python leave a carriage return without the quotes that RFC 4180 wants.
    writer = csv.writer(text, quoting=csv.QUOTE_ALL if "\r" in note else quoting, lineterminator=newline)
    writer.writerow(["b", "note", "a", "c"])
    for b, a, c in rows:
        writer.writerow(["" if b is None else repr(b), note, *("" if x is None else repr(x) for x in (a, c))])
    found = opened("csv", text.getvalue().encode())
    columns = (("a", "C"), ("b", "C"), ("c", "C"))
    expected = np.array([[math.nan if x is None else x for x in (a, b, c)] for b, a, c in rows]).reshape(-1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "LEAST_ROWS", 3)
        patch.setattr(table, "CHUNK_ROWS", 3)
        whole, ends = read(found, columns)
        np.testing.assert_array_equal(whole, expected)
        for end in ends:
            rest, _ = read(found, columns, end)
            np.testing.assert_array_equal(rest, expected[end.rows :])
    assert not ends or ends[-1].offset == found.length


def test_csv_of_a_spreadsheet_is_read() -> None:
    """Byte order mark, spaces around names, blank lines, other spellings of numbers."""
    found = opened("csv", b"\xef\xbb\xbfage , dose\r\n 1 ,+2e1\r\n\r\nNaN,.5\r\n")
    assert found.names == ("age", "dose")
    rows, _ = read(found, [("age", "C"), ("dose", "C")])
    np.testing.assert_array_equal(rows, [[1.0, 20.0], [math.nan, 0.5]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"a,a\n1,2\n", "'a' appears twice"),
        (b"a,\n1,2\n", "an attribute name is empty"),
        (b"a,b\n1,2\n3\n", "row 2 has 1 cells, the header 2 names"),
        (b"a,b\n1,x\n", "row 1, attribute 'b': 'x' is not a number"),
        (b"a,b\n1,1_000\n", "row 1, attribute 'b': '1_000' is not a number"),
        (b"a,b\n1,2\n1,inf\n", "row 2, attribute 'b': the number is not finite"),
        (b"a,b\n1,2\n1,1e999\n", "row 2, attribute 'b': the number is not finite"),
        ("a,b\n1,٣\n".encode(), "is not a number"),
        (b"a,b\n1,2],[3,4\n", "row 1 has 4 cells, the header 2 names"),
        (b"a,b\n1,[2]\n", r"row 1, attribute 'b': '\[2\]' is not a number"),
        (b"a,b\n1,true\n", "row 1, attribute 'b': 'true' is not a number"),
        (b"a,b\n1,null\n", "row 1, attribute 'b': 'null' is not a number"),
        (b'a,b\n1,"2"3\n', "the file is not CSV, somewhere from row 1 on"),
        (b'a,b\n1,"2\n', "the file is not CSV"),
        (b"a,b\n1,\r2\n", "from row 1 on: a carriage return stands alone outside of quotes"),
        (b"a,b\r1,2\r", "from row 1 on: a carriage return stands alone outside of quotes"),
        (b"a,b\n1,\xff\n", "the line at byte 4 is not UTF-8"),
        (b"a,b\n" + b"1" * 200_000 + b",2\n", "field larger than field limit"),
    ],
)
def test_csv_that_cannot_be_used_is_refused(data: bytes, message: str) -> None:
    """In words that name the place."""
    with pytest.raises(InvalidRequest, match=message):
        read(opened("csv", data), [("a", "C"), ("b", "C")])


def test_csv_value_that_is_not_binary_names_its_row(small_chunks: None) -> None:
    """Counted over all chunks."""
    data = b"a\n" + b"1\n" * 7 + b"2\n"
    with pytest.raises(InvalidRequest, match=r"row 8, attribute 'a': 2\.0 is neither 1 nor 0"):
        read(opened("csv", data), [("a", "B")])


def test_csv_goes_on_behind_the_last_chunk_of_plain_numbers(small_chunks: None) -> None:
    """The first odd cell, in whichever chunk, changes the way of reading and nothing else."""
    for odd in range(12):
        rows = [[float(i), math.nan if i % 4 == 1 else i + 0.5] for i in range(12)]
        texts = [[f'"{x}"' if i == odd else str(x), "" if y != y else str(y)] for i, (x, y) in enumerate(rows)]
        data = "x,y\n" + "\n".join(map(",".join, texts)) + "\n"
        found, ends = read(opened("csv", data.encode()), [("y", "C"), ("x", "C")])
        np.testing.assert_array_equal(found, [[y, x] for x, y in rows])
        assert [end.rows for end in ends] == [3, 6, 9, 12]


def test_csv_lines_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a line nor a chunk may take all memory."""
    monkeypatch.setattr(csv_table, "MAX_LINE_BYTES", 20)
    with pytest.raises(InvalidRequest, match="the line at byte 2 has more than 20 bytes"):
        read(opened("csv", b"a\n" + b"1" * 21 + b"\n"), [("a", "C")])
    monkeypatch.setattr(csv_table, "CHUNK_BYTES", 20)
    monkeypatch.setattr(csv_table, "MAX_RECORD_BYTES", 40)
    with pytest.raises(InvalidRequest, match="a quote is not closed"):
        read(opened("csv", b'a\n1\n"' + b"1\n" * 50 + b'"\n'), [("a", "C")])


def test_csv_chunk_of_long_rows_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts beside the numbers may be long: they count for the memory that a chunk takes."""
    monkeypatch.setattr(csv_table, "CHUNK_BYTES", 1_000)
    for text in ("7" * 300, "x" * 300, f'"{"x" * 300}"'):
        data = "a,b\n" + f"1,{text}\n" * 50
        rows, ends = read(opened("csv", data.encode()), [("a", "C")])
        assert len(rows) == 50
        assert [end.rows for end in ends] == [*range(4, 50, 4), 50]


def test_csv_numbers_are_those_of_the_wire() -> None:
    """Of the three ways to read them, from the quickest to the most careful, all agree to the bit."""
    values = np.random.default_rng(1).normal(size=2000) * 10.0 ** np.arange(2000).clip(0, 300)
    texts = list(map(repr, values.tolist()))
    for beside in ("0", '"x"', "_"):
        found = opened("csv", ("a,b\n" + "\n".join(f"{text},{beside}" for text in texts)).encode())
        np.testing.assert_array_equal(read(found, [("a", "C")])[0][:, 0], values)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1", "", "1.0"], "B"),
        (["0", "0"], "B"),
        (["0", "1", "2"], "C"),
        (["", "NaN"], "C"),
        (["1", "x"], "X"),
        ([], "C"),
    ],
)
def test_type_is_inferred(cells: list[str], kind: str) -> None:
    """0 and 1 alone are binary, numbers continuous, all else is ignored."""
    assert infer_type(cells) == kind


def test_columns_are_chosen_by_the_caller_then_the_project_then_the_file() -> None:
    """And what is not chosen is named."""
    found = opened("csv", b"flag,x,name\n1,2,Ann\n0,3,Bob\n")
    assert choose(found, None, {}) == ((("flag", "B"), ("x", "C")), ("name",))
    assert choose(found, None, {"flag": "C"}) == ((("flag", "C"), ("x", "C")), ("name",))
    assert choose(found, {"x": "C"}, {}) == ((("x", "C"),), ("flag", "name"))
    for given_types, message in [
        ({"y": "C"}, "no column 'y'"),
        ({"x": "T"}, "has type 'T'; this server knows C, B, X"),
        ({"x": "X"}, "no column of the file is to be read"),
    ]:
        with pytest.raises(InvalidRequest, match=message):
            choose(found, given_types, {})


def test_parquet_is_read_from_any_position(small_chunks: None) -> None:
    """Across row groups and chunks; nulls and NaN are missing, booleans 0 and 1, text is left out."""
    pyarrow = pytest.importorskip("pyarrow")
    x = [1.5, None, math.nan, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    flag = [True, False, None] * 3 + [True, False]
    count = [2**40 + i for i in range(11)]
    data = parquet_of(
        {
            "x": pyarrow.array(x, pyarrow.float32()),
            "flag": flag,
            "name": ["a"] * 11,
            "count": count,
            "price": pyarrow.array([None, *range(10)], pyarrow.decimal128(10, 2)),
        },
        row_group_size=5,
    )
    found = opened("parquet", data)
    columns, ignored = choose(found, None, {})
    assert columns == (("x", "C"), ("flag", "B"), ("count", "C"), ("price", "C"))
    assert ignored == ("name",)
    expected = np.array(
        [
            [math.nan if a is None else a, math.nan if b is None else b, c, math.nan if i == 0 else i - 1.0]
            for i, (a, b, c) in enumerate(zip(x, flag, count, strict=True))
        ],
        dtype=float,
    )
    whole, ends = read(found, columns)
    np.testing.assert_array_equal(whole, expected)
    assert [end.rows for end in ends] == [3, 5, 8, 10, 11]
    for rows in range(11):
        np.testing.assert_array_equal(read(found, columns, Position(rows, rows))[0], expected[rows:])


def test_parquet_that_cannot_be_used_is_refused() -> None:
    """Text as numbers, infinities, and files that are none."""
    pytest.importorskip("pyarrow")
    found = opened("parquet", parquet_of({"x": [1.0, 2.0, math.inf], "name": ["a", "b", "c"]}))
    with pytest.raises(InvalidRequest, match="row 3, attribute 'x': the number is not finite"):
        read(found, [("x", "C")])
    with pytest.raises(InvalidRequest, match="column 'name' is of type string, which is no number"):
        read(found, [("name", "C")])
    good = parquet_of({"x": list(range(1000))})
    for bad in (b"", b"PAR1", good[:-5], good[:100] + bytes(100) + good[200:-100] + bytes(100), b"a,b\n1,2\n"):
        with pytest.raises(InvalidRequest, match="cannot be read as Parquet"):
            read(opened("parquet", bad), [("x", "C")])


def test_parquet_without_pyarrow_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional, and functions may do without."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidRequest, match=r"gramian\[parquet\]"):
        opened("parquet", b"PAR1")


def test_json_is_a_data_frame_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one piece, with its own types unless the caller has others."""
    data = json.dumps(
        {
            "attributeNames": ["x", "name", "flag"],
            "attributeTypes": ["C", "X", "B"],
            "data": [["1", "a", 1], [2, "", ""]],
        }
    ).encode()
    found = opened("json", data)
    columns, ignored = choose(found, None, {})
    assert (columns, ignored) == ((("x", "C"), ("flag", "B")), ("name",))
    rows, ends = read(found, columns)
    np.testing.assert_array_equal(rows, [[1, 1], [2, math.nan]])
    assert ends == [Position(1, 2)]
    assert read(found, columns, ends[0])[0].size == 0
    monkeypatch.setattr(json_table, "MAX_BYTES", 10)
    with pytest.raises(TooLarge, match="send CSV or Parquet"):
        opened("json", data)
