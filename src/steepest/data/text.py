"""Lines of a text file that may be larger than memory."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

LINES = 256
BYTES = 64 * 1024
CHUNK = 4 * 2**20


class Lines:
    """Lines as strings without their newline; a batch is a list of them.

    The file is read once to find where lines begin. Kept is where every 256th begins and the first in each 64 KiB, so
    that a line is found by reading a few KiB; an index of 100 million lines takes 6 MB or more.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._bytes = _size(file)
            parts = list(_marks(file))
        if not self._bytes:
            raise ValueError(f"The file {path} is empty; training needs one line or more.")
        self._numbers = np.concatenate([numbers for numbers, _ in parts])
        self._offsets = np.concatenate([offsets for _, offsets in parts])
        # The last mark is where a line after the end would begin; a file without a last newline ends in one line more.
        self.samples = int(self._numbers[-1]) + (int(self._offsets[-1]) < self._bytes)

    def read(self, epoch: int, index: np.ndarray) -> list[str]:
        """Return the lines with these numbers. The file is opened anew: processes must not share its position."""
        with self._path.open("rb") as file:
            if _size(file) != self._bytes:
                raise RuntimeError(f"The file {self._path} was changed while it was read; it has to stay as it is.")
            return [self._line(file, number) for number in index.tolist()]

    def signature(self) -> dict[str, Any]:
        """Return what the data is."""
        return {"kind": "text", "samples": self.samples, "bytes": self._bytes}

    def _line(self, file: BinaryIO, number: int) -> str:
        mark = int(np.searchsorted(self._numbers, number, side="right")) - 1
        file.seek(self._offsets[mark])
        line = next(islice(file, number - int(self._numbers[mark]), None))
        try:
            return line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Line {number + 1} of {self._path} is not UTF-8: {error.reason} at byte {error.start} of it. Convert "
                "the file to UTF-8 or remove the line."
            ) from None


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _marks(file: BinaryIO) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers and offsets of the lines to remember, part by part; the last one is where the newlines end."""
    yield np.zeros(1, np.int64), np.zeros(1, np.int64)
    lines, block, position = 0, 0, 0
    last = 0
    while chunk := file.read(CHUNK):
        offsets = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + (position + 1)
        position += len(chunk)
        if not len(offsets):
            continue
        numbers = np.arange(lines + 1, lines + 1 + len(offsets))
        blocks = offsets // BYTES
        kept = (numbers % LINES == 0) | (np.diff(blocks, prepend=block) > 0)
        yield numbers[kept], offsets[kept]
        lines, block, last = int(numbers[-1]), int(blocks[-1]), int(offsets[-1])
    yield np.array([lines]), np.array([last])
