"""CSV (RFC 4180): UTF-8, a header of names, records that may span lines inside quotes.

Read line by line, so that memory is bounded whatever the file holds, and the byte behind each record is known: there a
reader that starts later goes on.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, TypeVar

import msgspec

from gramian.domain.frame import Frame, check_values
from gramian.domain.names import check_attribute_names
from gramian.domain.tables.table import SAMPLE_ROWS, Chunk, Position, chunk_rows, infer_type
from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array

T = TypeVar("T")
Rows: TypeAlias = list[tuple[float, ...]]

MAX_LINE_BYTES = 16 * 2**20
CHUNK_BYTES = 32 * 2**20
"""A chunk whose lines take so much together ends, however few rows it has."""
MAX_RECORD_BYTES = 64 * 2**20
"""What the lines of one record may take together: more is a quote that is not closed."""


class CsvTable:
    """`gramian.domain.tables.table.Table`. Empty and `NaN` cells are missing values, blank lines no rows."""

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        self.length = size_bytes
        self._file = file
        lines = _Lines(file, 0)
        header = _records(lines, 1, 0)
        if not header:
            raise InvalidRequest("the file is empty: its first line must hold the names of the columns")
        self.names = check_attribute_names([name.strip() for name in header[0]])
        self._body = lines.offset

    def infer(self) -> Mapping[str, str]:
        sample = self._checked(_records(_Lines(self._file, self._body), SAMPLE_ROWS, 0), 0)
        return {name: infer_type(row[i] for row in sample) for i, name in enumerate(self.names)}

    def chunks(self, columns: Sequence[tuple[str, str]], start: Position) -> Iterator[Chunk]:
        lines = _Lines(self._file, start.offset or self._body)
        at, count = start.rows, chunk_rows(len(self.names))
        for matrix in self._plain_chunks(lines, columns, count):
            check_values(matrix, columns, at + 1)
            at += len(matrix)
            yield Chunk(matrix, Position(lines.offset, at))
        while records := _records(lines, count, at):
            rows = self._checked(records, at)
            if rows:
                matrix = self._matrix(rows, columns, at + 1, plain=lines.is_plain)
                at += len(rows)
                yield Chunk(matrix, Position(lines.offset, at))
            lines.begin_chunk()

    def _plain_chunks(self, lines: _Lines, columns: Sequence[tuple[str, str]], count: int) -> Iterator[Array]:
        """Chunks for as long as their lines hold nothing but numbers and gaps: as JSON they are read many times faster.

        `lines` is then behind the last of them.
        """
        places = [self.names.index(name) for name, _ in columns]
        decoder: msgspec.json.Decoder[Rows] = msgspec.json.Decoder(
            list[tuple[(float,) * len(self.names)]],  # type: ignore[misc]
            strict=False,
        )
        while raw := lines.take(count):
            rows = _numbers(raw, decoder)
            if rows is None:
                lines.go_back()
                return
            if rows:
                yield _stack(_cells(rows, places), len(rows), len(places))
            lines.begin_chunk()

    def _checked(self, records: list[list[str]], before: int) -> list[list[str]]:
        """Without blank lines. Raises InvalidRequest for a row of another length than the header."""
        rows = [record for record in records if record]
        if any(len(row) != len(self.names) for row in rows):
            number, row = next((i, row) for i, row in enumerate(rows, before + 1) if len(row) != len(self.names))
            raise InvalidRequest(f"row {number} has {len(row)} cells, the header {len(self.names)} names")
        return rows

    def _matrix(
        self, rows: list[list[str]], columns: Sequence[tuple[str, str]], first_row: int, *, plain: bool
    ) -> Array:
        places = [self.names.index(name) for name, _ in columns]
        matrix = _floats(rows, places) if plain else None
        if matrix is None:
            types = dict(columns)
            frame = Frame(self.names, tuple(types.get(name, "X") for name in self.names), rows, first_row)
            return frame.matrix([name for name, _ in columns])
        check_values(matrix, columns, first_row)
        return matrix


class _Lines:
    """Lines of text, and the offset behind the last one. `is_plain`: no line of the chunk has what Python takes for a
    part of a number and others do not: underscores, digits of other scripts."""

    def __init__(self, file: BinaryIO, offset: int) -> None:
        file.seek(offset)
        self._file = file
        self.offset = offset
        self.begin_chunk()

    def begin_chunk(self) -> None:
        self._start = self.offset
        self.is_plain = True

    def go_back(self) -> None:
        """To where the chunk begins."""
        self._file.seek(self._start)
        self.offset = self._start
        self.begin_chunk()

    def take(self, count: int) -> list[bytes]:
        """Up to so many lines as they are, fewer if they are long."""
        taken: list[bytes] = []
        while len(taken) < count and not self.is_full and (line := self._line()):
            taken.append(line)
        return taken

    @property
    def is_full(self) -> bool:
        """Whether the chunk has enough bytes."""
        return self.offset - self._start >= CHUNK_BYTES

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        at, line = self.offset, self._line()
        if not line:
            raise StopIteration
        self.is_plain = self.is_plain and line.isascii() and b"_" not in line
        try:
            return line.decode("utf-8-sig" if at == 0 else "utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest(f"the line at byte {at} is not UTF-8") from None

    def _line(self) -> bytes:
        """Empty at the end of the file."""
        line = self._file.readline(MAX_LINE_BYTES + 1)
        at, self.offset = self.offset, self.offset + len(line)
        if len(line) > MAX_LINE_BYTES:
            raise InvalidRequest(f"the line at byte {at} has more than {MAX_LINE_BYTES} bytes")
        if self.offset - self._start > CHUNK_BYTES + MAX_RECORD_BYTES:
            raise InvalidRequest(f"a row is too long, or a quote is not closed: look behind byte {self._start}")
        return line


def _records(lines: _Lines, count: int, before: int) -> list[list[str]]:
    """Up to `count` records, fewer if they are long. `before`: rows read so far, for the message."""
    records: list[list[str]] = []
    try:
        for record in csv.reader(lines, strict=True):
            records.append(record)
            if len(records) == count or lines.is_full:
                break
        return records
    except csv.Error as error:
        # Its own words for this advise on opening files in Python.
        why = "a carriage return stands alone outside of quotes" if "universal-newline" in str(error) else error
        raise InvalidRequest(f"the file is not CSV, somewhere from row {before + 1} on: {why}") from None


def _numbers(lines: list[bytes], decoder: msgspec.json.Decoder[Rows]) -> Rows | None:
    """The rows, NaN for empty cells, without blank lines; None if a cell is anything but a number of JSON."""
    text = b"".join(lines)
    # What JSON would take for more than a cell; whatever else is no number the decoder refuses.
    if any(sign in text for sign in (b'"', b"[", b"]")):
        return None
    rows = b"],[".join(filter(None, map(_bare, lines)))
    if not rows:
        return []
    if b"\r" in rows:  # white space to JSON, an error in CSV
        return None
    body = b"[" + rows + b"]"
    for gap, filled in ((b",,", b',"nan",'), (b",,", b',"nan",'), (b"[,", b'["nan",'), (b",]", b',"nan"]')):
        body = body.replace(gap, filled)
    try:
        return decoder.decode(b"[" + body + b"]")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _bare(line: bytes) -> bytes:
    return line.rstrip(b"\r\n")


def _floats(rows: list[list[str]], places: list[int]) -> Array | None:
    """(n, p) of the cells in `places`, NaN for empty ones; None if a cell is no number and needs a closer look."""
    try:
        values = (float(cell) if cell else math.nan for cell in _cells(rows, places))
        return _stack(values, len(rows), len(places))
    except ValueError:
        return None


def _stack(values: Iterable[float], n: int, p: int) -> Array:
    import numpy as np

    return np.fromiter(values, np.float64, n * p).reshape(n, p)


def _cells(rows: Sequence[Sequence[T]], places: list[int]) -> Iterable[T]:
    if places == list(range(len(rows[0]))):
        return chain.from_iterable(rows)
    if len(places) == 1:
        return map(itemgetter(places[0]), rows)
    return chain.from_iterable(map(itemgetter(*places), rows))
