"""The wire DataFrame (contract, section 2.3) and its way into numbers.

Cells are text, and most of a learn request's time would go into making floats of them one by one. So the rows stay raw
JSON until somebody asks for a matrix; then msgspec decodes each row straight into a tuple of floats. Frames for which
that fails (odd spellings of numbers, mistakes) take a slower way that accepts more and names the cell at fault.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from gramian.domain import jsonio, typed
from gramian.domain.names import check_attribute_names
from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix: TypeAlias = NDArray[np.float64]

TYPES = {"C": "a number", "B": "1 or 0", "X": "ignored"}

_Cell: TypeAlias = str | float | bool | None
# Possessive: a cell of a million digits and a letter must not be tried in a million ways.
_NUMBER = re.compile(r"\s*+[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+\s*+", re.ASCII)
_MISSING = frozenset(("", "nan", "-nan"))


class _Wire(msgspec.Struct, rename="camel"):
    attribute_names: list[str]
    attribute_types: list[str]
    data: msgspec.Raw


class _LenientWire(msgspec.Struct, rename="camel"):
    attribute_names: list[str]
    attribute_types: list[str]
    data: list[Any]


_WIRE = msgspec.json.Decoder(_Wire)


@dataclass(frozen=True, slots=True)
class Frame:
    """Named, typed columns whose rows are not looked at yet. `types` are one of C, B, X each."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    _rows: msgspec.Raw | list[Any] = field(repr=False)
    first_row: int = 1
    """The number that messages give the first row."""

    def numeric(self) -> tuple[tuple[str, str], ...]:
        """Name and type of the attributes of type C or B, in the frame's order. Raises InvalidRequest for none."""
        found = tuple((name, kind) for name, kind in zip(self.names, self.types, strict=True) if kind != "X")
        if not found:
            raise InvalidRequest("all attributes of the frame have type X, which is ignored: there is nothing to use")
        return found

    def as_numbers(self) -> Frame:
        """The same rows with every column taken as a number, whatever type its sender gave it."""
        return replace(self, types=("C",) * len(self.names))

    def matrix(self, names: Sequence[str]) -> Matrix:
        """The named columns of all rows as float64 (n, len(names)), NaN where a cell is empty, `NaN` or null.

        Only these columns are read: others may hold anything. Raises InvalidRequest for an unknown or ignored
        name, a row of another length, a cell that is no finite number, and a B cell other than 0 and 1.
        """
        columns = self._columns(names)
        rows = self._floats(columns)
        if rows is None:
            rows = self._floats_one_by_one(columns)
        matrix = _stack(rows, columns)
        self._check(matrix, columns)
        return matrix

    def _columns(self, names: Sequence[str]) -> list[int]:
        places = {name: i for i, name in enumerate(self.names)}
        for name in names:
            if name not in places:
                raise InvalidRequest(f"the frame has no attribute {name!r}")
            if self.types[places[name]] == "X":
                raise InvalidRequest(f"attribute {name!r} has type X, which is ignored; it cannot be used")
        return [places[name] for name in names]

    def _floats(self, columns: list[int]) -> list[tuple[Any, ...]] | None:
        """All rows with floats in `columns`, or None if a cell or the shape needs a closer look."""
        if isinstance(self._rows, list):
            return None
        wanted = set(columns)
        kinds = tuple(float if i in wanted else _Cell for i in range(len(self.names)))
        decoder: msgspec.json.Decoder[list[tuple[Any, ...]]] = msgspec.json.Decoder(
            list[tuple[kinds]],  # type: ignore[valid-type]
            strict=False,
        )
        try:
            return decoder.decode(_mark_gaps(self._rows))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _floats_one_by_one(self, columns: list[int]) -> list[tuple[Any, ...]]:
        rows = _load(self._rows) if isinstance(self._rows, msgspec.Raw) else self._rows
        if not isinstance(rows, list):
            raise InvalidRequest("data must be a list of rows")
        result: list[tuple[Any, ...]] = []
        wanted = set(columns)
        for number, row in enumerate(rows, self.first_row):
            if not isinstance(row, list):
                raise InvalidRequest(f"row {number} is not a list of cells")
            if len(row) != len(self.names):
                raise InvalidRequest(f"row {number} has {len(row)} cells for {len(self.names)} attributes")
            result.append(tuple(self._number(cell, number, i) if i in wanted else None for i, cell in enumerate(row)))
        return result

    def _number(self, cell: object, row: int, column: int) -> float:
        value = number(cell)
        if value is None:
            raise _fault(row, self.names[column], f"{_shown(cell)} is not a number")
        return value

    def _check(self, matrix: Matrix, columns: list[int]) -> None:
        check_values(matrix, [(self.names[column], self.types[column]) for column in columns], self.first_row)


def number(cell: object) -> float | None:
    """The value of a cell, NaN if it is missing, None if it is no number."""
    if cell is None:
        return math.nan
    if isinstance(cell, bool | int | float):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    if isinstance(cell, str):
        if _NUMBER.fullmatch(cell):
            return float(cell)
        if cell.strip().lower() in _MISSING:
            return math.nan
    return None


def check_values(matrix: Matrix, columns: Sequence[tuple[str, str]], first_row: int = 1) -> None:
    """Raises InvalidRequest, naming row and attribute, unless all values (n, p) are finite or NaN, and 0, 1 or NaN in
    type B. `columns`: name and type of each."""
    import numpy as np

    if (bad := np.isinf(matrix)).any():
        row, place = map(int, np.argwhere(bad)[0])
        raise _fault(row + first_row, columns[place][0], "the number is not finite")
    for place, (name, kind) in enumerate(columns):
        if kind == "B":
            cells = matrix[:, place]
            wrong = np.flatnonzero((cells != 0) & (cells != 1) & (cells == cells))
            if wrong.size:
                value = float(cells[wrong[0]])
                raise _fault(int(wrong[0]) + first_row, name, f"{value} is neither 1 nor 0, as type B must be")


def _fault(row: int, name: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"row {row}, attribute {name!r}: {what}")


def decode(body: bytes) -> Frame:
    """Read a DataFrame; rows are only checked to be JSON. Unknown keys are ignored.

    Raises InvalidRequest for malformed JSON, missing keys, impossible names, and types that do not exist.
    """
    wire = _decode_wire(body)
    names, types = wire.attribute_names, tuple(kind.upper() for kind in wire.attribute_types)
    if len(names) != len(types):
        raise InvalidRequest(f"there are {len(names)} attributeNames and {len(types)} attributeTypes")
    normal = check_attribute_names(names)
    for name, kind in zip(normal, types, strict=True):
        if kind not in TYPES:
            known = ", ".join(f"{letter} ({meaning})" for letter, meaning in TYPES.items())
            raise InvalidRequest(f"attribute {name!r} has type {_shown(kind)}; this server knows {known}")
    return Frame(normal, types, wire.data)


def _decode_wire(body: bytes) -> _Wire | _LenientWire:
    try:
        return _WIRE.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body is not a DataFrame: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = jsonio.loads(body)
    try:
        return typed.convert(value, _LenientWire)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the body is not a DataFrame: {error}") from None


def _mark_gaps(rows: msgspec.Raw) -> bytes:
    """Spell empty cells as a float that msgspec reads.

    In valid JSON `""` is an empty string, or ends one with an escaped quote, which is no number before or after.
    """
    return memoryview(rows).tobytes().replace(b'""', b'"nan"')


def _load(rows: msgspec.Raw) -> object:
    try:
        return msgspec.json.decode(rows)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the data of the DataFrame cannot be read: {error}") from None


def _stack(rows: list[tuple[Any, ...]], columns: list[int]) -> Matrix:
    import numpy as np

    count = len(rows) * len(columns)
    return np.fromiter(_cells(rows, columns), np.float64, count).reshape(len(rows), len(columns))


def _cells(rows: list[tuple[Any, ...]], columns: list[int]) -> Iterable[float]:
    if not columns or not rows:
        return ()
    if columns == list(range(len(rows[0]))):
        return chain.from_iterable(rows)
    if len(columns) == 1:
        return map(itemgetter(columns[0]), rows)
    return chain.from_iterable(map(itemgetter(*columns), rows))


def _shown(cell: object) -> str:
    """A short form of a cell that is safe in a message."""
    text = repr(cell[:40]) if isinstance(cell, str) else type(cell).__name__
    return f"{text}..." if isinstance(cell, str) and len(cell) > 40 else text
