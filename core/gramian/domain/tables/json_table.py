"""The wire's DataFrame as a file. JSON is read as a whole, so it must not be large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from gramian.domain import frame as frames
from gramian.domain.tables.table import Chunk, Position
from gramian.errors import TooLarge

MAX_BYTES = 64 * 2**20


class JsonTable:
    """`gramian.domain.tables.table.Table` of one chunk, whose types stand in the file. The offset counts files."""

    length = 1

    def __init__(self, file: BinaryIO, size_bytes: int) -> None:
        """Raises TooLarge beyond MAX_BYTES."""
        if size_bytes > MAX_BYTES:
            raise TooLarge(f"a JSON file may have {MAX_BYTES} bytes, this one has {size_bytes}: send CSV or Parquet")
        self._frame = frames.decode(file.read(MAX_BYTES + 1))
        self.names = self._frame.names

    def infer(self) -> Mapping[str, str]:
        return dict(zip(self._frame.names, self._frame.types, strict=True))

    def chunks(self, columns: Sequence[tuple[str, str]], start: Position) -> Iterator[Chunk]:
        if start.offset:
            return
        types = dict(columns)
        frame = replace(self._frame, types=tuple(types.get(name, "X") for name in self.names))
        rows = frame.matrix([name for name, _ in columns])
        if not len(rows):
            return
        yield Chunk(rows, Position(1, len(rows)))
