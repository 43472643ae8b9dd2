"""What readers of files of rows have in common: chunks, positions, types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from gramian.domain.frame import TYPES, number
from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array

CHUNK_CELLS = 2**20
"""Cells of a chunk, so that it takes some 100 MB at most while it is text."""
CHUNK_ROWS = 50_000
LEAST_ROWS = 256
"""Rows of a chunk, however many columns it has: matrix products need some."""
SAMPLE_ROWS = 1_000
"""Rows from which types are inferred that nobody gave."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file is read: `rows`, and `offset` in whatever unit its reader counts."""

    offset: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows (n, p), float64, NaN where a value is missing, and the position behind them."""

    rows: Array
    end: Position


class Table(Protocol):
    """A file of rows that is open. Raises InvalidRequest, naming row and attribute, for what cannot be used."""

    names: tuple[str, ...]
    length: int
    """The offset at its end."""

    def infer(self) -> Mapping[str, str]:
        """The type of each column as the first SAMPLE_ROWS rows, or the file itself, tell."""
        ...

    def chunks(self, columns: Sequence[tuple[str, str]], start: Position) -> Iterator[Chunk]:
        """All rows behind `start`, in the order of `columns`: their names and types, C or B."""
        ...


def open_table(kind: str, file: BinaryIO, size_bytes: int) -> Table:
    """Read the head of a file. `kind`: a key of FORMATS. Raises InvalidRequest."""
    if kind == "csv":
        from gramian.domain.tables.csv_table import CsvTable

        return CsvTable(file, size_bytes)
    if kind == "parquet":
        from gramian.domain.tables.parquet_table import ParquetTable

        return ParquetTable(file)
    from gramian.domain.tables.json_table import JsonTable

    return JsonTable(file, size_bytes)


FORMATS = {
    "csv": "UTF-8, a header of names, comma-separated",
    "parquet": "numbers and booleans are read, other columns ignored",
    "json": "a DataFrame",
}


def chunk_rows(columns: int) -> int:
    """How many rows of so many columns make a chunk."""
    return max(LEAST_ROWS, min(CHUNK_ROWS, CHUNK_CELLS // max(columns, 1)))


def infer_type(cells: Iterable[object]) -> str:
    """X if any cell is no number, B if there are values and all are 0 or 1, else C."""
    values = [number(cell) for cell in cells]
    if None in values:
        return "X"
    present = {value for value in values if value is not None and not math.isnan(value)}
    return "B" if present and present <= {0.0, 1.0} else "C"


def choose(
    table: Table, given: Mapping[str, str] | None, known: Mapping[str, str]
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Name and type of the columns to read in the file's order, and the names of those that are ignored.

    `given` decides, and what it does not name is ignored. Without it, attributes that are `known` already have their
    type, and the rest is inferred. Raises InvalidRequest.
    """
    if given is None:
        inferred = table.infer()
        types = {name: kind if kind == "X" else known.get(name, kind) for name, kind in inferred.items()}
    else:
        types = {**dict.fromkeys(table.names, "X"), **_checked(given, table)}
    columns = tuple((name, types[name]) for name in table.names if types[name] != "X")
    if not columns:
        raise InvalidRequest("no column of the file is to be read: all are of type X, which is ignored")
    return columns, tuple(name for name in table.names if types[name] == "X")


def _checked(given: Mapping[str, str], table: Table) -> Mapping[str, str]:
    for name, kind in given.items():
        if name not in table.names:
            raise InvalidRequest(f"the file has no column {name[:80]!r}; it has {', '.join(table.names)[:300]}")
        if kind not in TYPES:
            raise InvalidRequest(
                f"attribute {name[:80]!r} has type {kind[:20]!r}; this server knows {', '.join(TYPES)}"
            )
    return given
