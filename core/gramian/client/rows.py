"""Rows as the wire's DataFrame has them: every cell is text, a missing one is empty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

Cell: TypeAlias = str | float | int | bool | None


class ArrayLike(Protocol):
    """Anything with numpy's `tolist`."""

    def tolist(self) -> list[list[Cell]]: ...


Rows: TypeAlias = ArrayLike | Iterable[Sequence[Cell]]


def dataframe(names: Sequence[str], types: Sequence[str], rows: Rows) -> dict[str, Any]:
    """The wire form of rows: lists of numbers, text, None and NaN, or a numpy array (n, len(names))."""
    table = rows if isinstance(rows, Iterable) and not hasattr(rows, "tolist") else rows.tolist()
    return {"attributeNames": list(names), "attributeTypes": list(types), "data": [_cells(row) for row in table]}


def _cells(row: Sequence[Cell]) -> list[str]:
    """All digits of every cell, so that the server reads the same doubles."""
    if set(map(type, row)) == {float}:
        # Several times as fast as repr of each, and as exact; what is not finite comes out as null.
        text = msgspec.json.encode(row).decode()
        if "null" not in text:
            return text[1:-1].split(",")
    return [_cell(cell) for cell in row]


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None or math.isnan(cell):
        return ""
    # int() and float() also turn numpy's scalars into what str and repr write plainly, with all digits.
    return str(int(cell)) if isinstance(cell, bool | int) else repr(float(cell))
