"""The event file of a run: one JSON object a line, only ever appended to."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self


def encode(event: dict[str, Any]) -> str:
    """Return an event as one line of JSON.

    JSON has no NaN and no infinity: they become null, and the key "nonfinite" says which they were.
    """
    try:
        return json.dumps(event, allow_nan=False)
    except (ValueError, TypeError):
        nonfinite: dict[str, str] = {}
        clean = {key: _clean(key, value, nonfinite) for key, value in event.items()}
        if nonfinite:
            clean["nonfinite"] = nonfinite
        return json.dumps(clean, allow_nan=False)


def decode(line: str | bytes) -> dict[str, Any]:
    """Return the event of a line, with NaN and infinity where they were at its top level."""
    event = json.loads(line)
    for key, value in event.pop("nonfinite", {}).items():
        if event.get(key, ...) is None:
            event[key] = float(value)
    return event


def _clean(path: str, value: Any, nonfinite: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(f"{path}.{key}", inner, nonfinite) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(f"{path}.{place}", inner, nonfinite) for place, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        nonfinite[path] = str(value)
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what a file says, in its order; lines that are not whole are left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                try:
                    yield decode(line)
                except ValueError:
                    continue


def rows_before(path: Path, step: int) -> list[dict[str, Any]]:
    """Return the rows of the history that are in force for a run that goes on from this step.

    After an event "resume" with a step, rows stand in place of those that had been written for later steps.
    """
    rows: list[dict[str, Any]] = []
    for event in events(path):
        if event.get("event") == "resume":
            rows = [row for row in rows if _before(row, event["step"])]
        elif event.get("event") in ("step", "evaluation"):
            rows.append({key: value for key, value in event.items() if key != "time"})
    kept = [row for row in rows if _before(row, step)]
    return [{key: value for key, value in row.items() if key != "event"} for row in kept]


def _before(row: dict[str, Any], step: int) -> bool:
    """Whether a row was made by the first so many updates: that of a step bears its index, counted from 0."""
    return row["step"] < step or (row["event"] == "evaluation" and row["step"] == step)


class EventFile:
    """Appends events to `events.jsonl` in a folder; a line is with the operating system when `write` returns.

    Folder and file are made by the first `write`, so a run that fails before its first step leaves nothing behind. A
    file that cannot be written (the disk is full) does not end a run: its lines wait in memory, and `problem` is told.
    """

    def __init__(self, folder: Path, problem: Callable[[str], None] = lambda text: None) -> None:
        check_folder(folder)
        self.path = folder / "events.jsonl"
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
    if not os.access(place, os.W_OK):
        raise ValueError(f"out={str(folder)!r} cannot be written: this user may not write to {place}.")
