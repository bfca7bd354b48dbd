"""The groups of rows in which Parquet files are stored."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from steepest.data.columns import TEXT, Columns, check_filled, is_text, missing_values, width


class RowGroups:
    """All groups of all files, numbered in the order of the files. Their rows, and about the bytes they take in memory.

    types: what each column holds, the same in every file.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.rows: list[int] = []
        self.bytes: list[int] = []
        self._places: list[tuple[Path, int]] = []
        schema: pa.Schema | None = None
        for path in paths:
            with _opened(path) as file:
                if schema is None:
                    schema = file.schema_arrow
                    _check_types(schema, path)
                _check_same(schema, paths[0], file.schema_arrow, path)
                if file.metadata.num_rows == 0:
                    raise ValueError(f"The file {path} holds no rows; leave it out.")
                for group in range(file.metadata.num_row_groups):
                    self._add(path, group, file.metadata.row_group(group), schema)
        self.types = {field.name: str(field.type) for field in schema or ()}

    def read(self, groups: list[int], limit: int) -> Iterator[Columns]:
        """Yield the rows of the groups together; those of a single group that takes more bytes in parts of a quarter.

        While a group is read in parts the reader holds a page and a dictionary of each column, 2 MB together.
        """
        if len(groups) == 1 and self.bytes[groups[0]] > limit:
            yield from self._read_in_parts(groups[0], limit // 4)
            return
        tables = []
        for path, places in groupby((self._places[group] for group in sorted(groups)), key=lambda place: place[0]):
            with _opened(path) as file:
                tables.append(file.read_row_groups([group for _, group in places]))
            check_filled(tables[-1], path)
        table = pa.concat_tables(tables)
        del tables
        yield Columns(table)

    def _read_in_parts(self, group: int, limit: int) -> Iterator[Columns]:
        path, place = self._places[group]
        rows = max(1, self.rows[group] * limit // self.bytes[group])
        parts, held = [], 0
        with _opened(path) as file:
            for part in file.iter_batches(min(rows, 65536), row_groups=[place]):
                parts.append(pa.Table.from_batches([part]))
                check_filled(parts[-1], path)
                held += part.num_rows
                if held >= rows:
                    table = pa.concat_tables(parts)
                    parts, held = [table.slice(rows)], held - rows
                    columns = Columns(table.slice(0, rows))
                    del table, part  # before more is read
                    yield columns
                    del columns
        if held:
            yield Columns(pa.concat_tables(parts))

    def _add(self, path: Path, number: int, group: Any, schema: pa.Schema) -> None:
        size = group.num_rows * sum(width(field.type) or 0 for field in schema)
        for place in range(group.num_columns):
            column = group.column(place)
            name = column.path_in_schema.split(".list.")[0]
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                raise ValueError(missing_values(name, statistics.null_count, path))
            if name in schema.names and is_text(schema.field(name).type):
                size += max(0, column.total_uncompressed_size - TEXT * group.num_rows)
        if group.num_rows:
            self.rows.append(group.num_rows)
            self.bytes.append(size)
            self._places.append((path, number))


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=2**17)
    except pa.ArrowException as error:
        raise ValueError(f"The file {path} is no Parquet file, or is damaged: {error}") from error


def _check_types(schema: pa.Schema, path: Path) -> None:
    for field in schema:
        if width(field.type) is None:
            raise TypeError(
                f"Column {field.name!r} of {path} holds {field.type} values; a batch holds numbers, truth values, "
                "strings, and lists of numbers of one fixed length. Convert the column or leave it out of the file."
            )


def _check_same(first: pa.Schema, where: Path, second: pa.Schema, path: Path) -> None:
    if first.equals(second):
        return
    types, others = ({field.name: str(field.type) for field in schema} for schema in (first, second))
    name = next((name for name in [*types, *others] if types.get(name) != others.get(name)), None)
    if name is None:
        difference = f"their columns are {list(types)} and {list(others)}"
    else:
        difference = (
            f"column {name!r} is {types.get(name, 'absent')} in the first, {others.get(name, 'absent')} in the other"
        )
    raise ValueError(f"The files {where} and {path} differ: {difference}. All files need the same columns.")
