"""The event file of a run while it is written: one JSON object a line, only ever appended to."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steepest.events import FILE, encode


class EventFile:
    """Appends events to `events.jsonl` in a folder; a line is with the operating system when `write` returns.

    Folder and file are made by the first `write`, so a run that fails before its first step leaves nothing behind. A
    file that cannot be written (the disk is full) does not end a run: its lines wait in memory, and `problem` is told.
    """

    def __init__(self, folder: Path, problem: Callable[[str], None] = lambda text: None) -> None:
        check_folder(folder)
        self.path = folder / FILE
        self._problem = problem
        self._file: Any = None
        self._waiting, self._told = bytearray(), False

    def write(self, event: dict[str, Any]) -> None:
        """Append one event."""
        self._waiting += encode(event).encode() + b"\n"
        try:
            del self._waiting[: self._append()]
            self._told = False
        except OSError as error:
            if not self._told:
                self._problem(
                    f"{self.path} cannot be written ({error.strerror}): events wait in memory, training goes on"
                )
            self._told = True

    def _append(self) -> int:
        """Write what waits; return how many bytes the disk took."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            _end_line(self.path)
        return self._file.write(self._waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def _end_line(path: Path) -> None:
    """Cut off a last line that a killed process did not finish."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = min(size, 1 << 20)
        file.seek(size - tail)
        end = file.read(tail).rfind(b"\n")
        if end + 1 < tail:
            file.truncate(size - tail + end + 1)


def check_folder(folder: Path) -> None:
    """Raise ValueError when no folder can be made or written here."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"out={str(folder)!r} cannot be a folder: {place} is a file.")
    try:
        os.rmdir(tempfile.mkdtemp(dir=place))
    except OSError as error:
        why = f"{place} takes no folder ({error.strerror})"
        raise ValueError(f"out={str(folder)!r} cannot be written: {why}.") from None
