"""Parquet by pyarrow: row group by row group, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from gramian.domain.frame import check_values
from gramian.domain.names import check_attribute_names
from gramian.domain.tables.table import SAMPLE_ROWS, Chunk, Position, chunk_rows
from gramian.errors import InvalidRequest

if TYPE_CHECKING:
    from gramian.domain.statistics.moments import Array

MAX_METADATA_BYTES = 64 * 2**20


class ParquetTable:
    """`gramian.domain.tables.table.Table`. The offset counts rows. Nulls and NaN are missing values."""

    def __init__(self, file: BinaryIO) -> None:
        """Raises InvalidRequest also where pyarrow is not installed."""
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise InvalidRequest(
                "this server cannot read Parquet: pyarrow is not installed there (gramian[parquet]); send CSV instead"
            ) from None
        with _readable():
            self._file = parquet.ParquetFile(
                file,
                pre_buffer=False,
                thrift_string_size_limit=MAX_METADATA_BYTES,
                thrift_container_size_limit=MAX_METADATA_BYTES,
            )
            self._schema = self._file.schema_arrow
        self.names = check_attribute_names(self._schema.names)
        self.length = int(self._file.metadata.num_rows)

    def infer(self) -> Mapping[str, str]:
        types = dict.fromkeys(self.names, "X")
        numeric = [i for i, field in enumerate(self._schema) if _is_numeric(field.type)]
        with _readable():
            batch = next(self._file.iter_batches(SAMPLE_ROWS, columns=[self._schema.names[i] for i in numeric]), None)
        for place, i in enumerate(numeric):
            types[self.names[i]] = "C" if batch is None else _infer(batch.column(place))
        return types

    def chunks(self, columns: Sequence[tuple[str, str]], start: Position) -> Iterator[Chunk]:
        names = [self._numeric_name(name) for name, _ in columns]
        before = 0
        for group in range(self._file.metadata.num_row_groups):
            behind = before + self._file.metadata.row_group(group).num_rows
            if behind > start.rows:
                yield from self._group(group, before, names, columns, start)
            before = behind

    def _group(
        self, group: int, at: int, names: list[str], columns: Sequence[tuple[str, str]], start: Position
    ) -> Iterator[Chunk]:
        """The rows of one row group, whose first is number `at`, behind `start`."""
        batches = self._file.iter_batches(chunk_rows(len(names)), row_groups=[group], columns=names)
        while True:
            with _readable():
                batch = next(batches, None)
            if batch is None:
                return
            skipped = min(max(start.rows - at, 0), batch.num_rows)
            at += batch.num_rows
            if skipped < batch.num_rows:
                with _readable():
                    rows = _matrix(batch.slice(skipped), names)
                check_values(rows, columns, at - len(rows) + 1)
                yield Chunk(rows, Position(at, at))

    def _numeric_name(self, name: str) -> str:
        """The name in the file. Raises InvalidRequest if the column holds no numbers."""
        field = self._schema.field(self.names.index(name))
        if not _is_numeric(field.type):
            raise InvalidRequest(f"column {name!r} is of type {field.type}, which is no number: leave it out")
        return str(field.name)


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever pyarrow raises for a bad file raises InvalidRequest."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, EOFError, OSError) as error:
        raise InvalidRequest(f"the file cannot be read as Parquet: {str(error)[:300]}") from error


def _is_numeric(kind: Any) -> bool:
    import pyarrow.types as types

    return any(is_one(kind) for is_one in (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal))


def _infer(column: Any) -> str:
    import numpy as np

    values = _values(column)
    present = values[~np.isnan(values)]
    return "B" if present.size and ((present == 0) | (present == 1)).all() else "C"


def _matrix(batch: Any, names: list[str]) -> Array:
    """(n, p) float64 in the order of `names`."""
    import numpy as np

    places = [batch.schema.get_field_index(name) for name in names]
    return np.column_stack([_values(batch.column(place)) for place in places])


def _values(column: Any) -> Array:
    """(n,) float64, NaN for nulls. Integers beyond 2^53 are rounded."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    values: Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return values
