"""Columns of a table: what tensors can hold as arrays, text as text."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

TEXT = 32
"""Bytes that a string is taken for at least: files say only how small they made it."""


class Columns:
    """Some rows of a table. Numbers lie where Arrow put them, until rows are taken out.

    A column of numbers, of truth values or of lists of numbers, all of one length, becomes a tensor; one of strings a
    list.
    """

    def __init__(self, table: pa.Table) -> None:
        self.rows: int = table.num_rows
        self._columns = {name: _column(table.column(name)) for name in table.column_names}

    def take(self, index: np.ndarray) -> dict[str, Any]:
        """Return the rows with these numbers."""
        return {name: _taken(column, index) for name, column in self._columns.items()}


def joined(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return pieces of a batch as one."""
    if len(pieces) == 1:
        return pieces[0]
    batch = {}
    for name, first in pieces[0].items():
        parts = [piece[name] for piece in pieces]
        batch[name] = torch.cat(parts) if isinstance(first, torch.Tensor) else [text for part in parts for text in part]
    return batch


def width(kind: pa.DataType) -> int | None:
    """Return the bytes of a value in memory, the least of them for a string; None when it becomes no tensor or text."""
    if is_text(kind):
        return TEXT
    if pa.types.is_dictionary(kind):
        return width(kind.value_type)
    if pa.types.is_fixed_size_list(kind):
        inner = None if is_text(kind.value_type) else width(kind.value_type)
        return inner and inner * kind.list_size
    if pa.types.is_boolean(kind):
        return 1
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return kind.bit_width // 8 if is_number else None


def is_text(kind: pa.DataType) -> bool:
    """Whether the values are strings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def check_filled(table: pa.Table, path: Path) -> None:
    """Raise ValueError when a value is missing in the table, which was read from the file."""
    for name in table.column_names:
        column = table.column(name)
        missing = column.null_count
        if pa.types.is_fixed_size_list(column.type):
            missing += sum(chunk.flatten().null_count for chunk in column.chunks)
        if missing:
            raise ValueError(missing_values(name, missing, path))


def missing_values(name: str, count: int, path: Path) -> str:
    """Return the sentence about missing values in a column."""
    return (
        f"Column {name!r} of {path} has missing values (null), {count} of them in one group of rows, and no tensor can "
        "hold them; fill them or leave out the rows."
    )


def _column(chunks: pa.ChunkedArray) -> np.ndarray | pa.Array:
    if pa.types.is_dictionary(chunks.type):
        chunks = chunks.cast(chunks.type.value_type)
    array = chunks.combine_chunks()
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), array.type.list_size)
    return array if is_text(array.type) else array.to_numpy(zero_copy_only=False)


def _taken(column: np.ndarray | pa.Array, index: np.ndarray) -> Any:
    if isinstance(column, np.ndarray):
        return torch.from_numpy(column[index])
    return column.take(pa.array(index)).to_pylist()
