"""Memory maps that are larger than memory: what was read is let go."""

import mmap
from typing import Any, Self

import numpy as np

LIMIT = 64 * 2**20
"""So many bytes of a file may stay mapped before they are let go."""

AROUND = 64 * 1024
"""What Linux maps around a page that is touched, if it is in the page cache."""


class Mapped:
    """The mapping beneath an array. Pages that were touched count as memory of the process until they are let go.

    They stay in the system's page cache, so a row that is read again soon is not read from disk again.
    """

    def __init__(self, mapping: mmap.mmap, bytes_per_row: int, shuffled: bool) -> None:
        self._mapping, self._touched = mapping, 0
        self._per_row = bytes_per_row + (AROUND if shuffled else 0)
        mapping.madvise(mmap.MADV_RANDOM if shuffled else mmap.MADV_SEQUENTIAL)

    @classmethod
    def of(cls, array: Any, shuffled: bool) -> Self | None:
        """Return the shared mapping that the array is a view of; None when there is none, or it is small.

        A private mapping (mode "c") must keep its pages: they hold what was written to it, and nothing else does.
        """
        mode = None
        row = array.nbytes // max(1, len(array)) if isinstance(array, np.ndarray) else 0
        while isinstance(array, np.ndarray):
            mode = getattr(array, "mode", mode)
            array = array.base
        if mode not in ("r", "r+", "w+") or not isinstance(array, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
            return None
        return cls(array, row, shuffled) if len(array) > LIMIT else None

    def count(self, rows: int) -> None:
        """Note that so many rows were read; let the pages go when it was much."""
        self._touched += rows * self._per_row
        if self._touched >= LIMIT:
            self._mapping.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
