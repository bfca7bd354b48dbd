"""Rows of Parquet files that may be larger than memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from steepest.data.columns import Columns, joined
from steepest.data.order import Order
from steepest.data.row_groups import RowGroups

WINDOW = 64 * 2**20
"""So many bytes of rows are in memory and shuffled together."""


class Parquet:
    """Every row once in an epoch; batches are dicts from column to tensor, or to list of strings.

    Files are stored in groups of rows. An epoch takes the groups in an order that is a pure function of seed and epoch,
    as many at a time as fit a window in memory, and the rows of each window in an order of its own. So rows are
    shuffled as far as windows reach; a group that is larger than a window is read in windows one after the other.
    Going on reads the window it is in, and of such a group what lies before.
    """

    def __init__(self, paths: list[Path], batch_size: int, seed: int | None) -> None:
        self._groups = RowGroups(paths)
        rows = sum(self._groups.rows)
        self.samples: int | None = rows
        self.batches: int | None = -(-rows // batch_size)
        self.say: Callable[[str], None] = lambda sentence: None  # there is never a need to
        self._batch_size, self._seed = batch_size, seed

    def epoch(self, number: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the batches of one epoch from batch `start` on; the last is short when they do not divide."""
        pieces, missing = [], self._batch_size
        for columns, order, first in self._windows(number, start * self._batch_size):
            while first < columns.rows:
                index = order.take(first, missing)
                pieces.append(columns.take(index))
                first, missing = first + len(index), missing - len(index)
                if not missing:
                    yield joined(pieces)
                    pieces, missing = [], self._batch_size
            del columns  # before the next window is read
        if pieces:
            yield joined(pieces)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: seed, epoch and position say it all."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing up."""

    def signature(self) -> dict[str, Any]:
        """Return what the data is: rows, and type of each column."""
        groups = self._groups
        return {"kind": "parquet", "samples": self.samples, "groups": len(groups.rows), "columns": groups.types}

    def close(self) -> None:
        """Nothing is open between two batches but what an epoch that was not read to its end holds."""

    def _windows(self, number: int, position: int) -> Iterator[tuple[Columns, Order, int]]:
        """Yield rows, their order, and where in it to begin, of each window from this position of the epoch on."""
        before = 0
        for groups in self._stretches(number):
            rows = sum(self._groups.rows[group] for group in groups)
            if position >= before + rows:
                before += rows
                continue
            for columns in self._groups.read(groups, WINDOW):
                after = before + columns.rows
                if position < after:
                    yield columns, Order(columns.rows, self._seed, number, before), max(0, position - before)
                before = after
                del columns

    def _stretches(self, number: int) -> Iterator[list[int]]:
        """Yield the groups of an epoch in its order, as many at a time as fit a window; one at least."""
        stretch, size = [], 0
        order = Order(len(self._groups.rows), self._seed, number)
        for group in order.take(0, len(self._groups.rows)).tolist():
            if stretch and size + self._groups.bytes[group] > WINDOW:
                yield stretch
                stretch, size = [], 0
            stretch.append(group)
            size += self._groups.bytes[group]
        yield stretch
