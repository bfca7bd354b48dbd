"""The event file of a run: one JSON object a line, only ever appended to."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self


def encode(event: dict[str, Any]) -> str:
    """Return an event as one line of JSON.

    JSON has no NaN and no infinity: they become null, and the key "nonfinite" says which they were.
    """
    nonfinite: dict[str, str] = {}
    clean = {key: _clean(key, value, nonfinite) for key, value in event.items()}
    if nonfinite:
        clean["nonfinite"] = nonfinite
    return json.dumps(clean, allow_nan=False)


def _clean(path: str, value: Any, nonfinite: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(f"{path}.{key}", inner, nonfinite) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(f"{path}.{place}", inner, nonfinite) for place, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        nonfinite[path] = str(value)
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


class EventFile:
    """Appends events to `events.jsonl` in a folder; a line is with the operating system when `write` returns.

    Folder and file are made by the first `write`, so a run that fails before its first step leaves nothing behind.
    """

    def __init__(self, folder: Path) -> None:
        check_folder(folder)
        self._path = folder / "events.jsonl"
        self._file: Any = None

    def write(self, event: dict[str, Any]) -> None:
        """Append one event."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab", buffering=0)
        self._file.write(encode(event).encode() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


def check_folder(folder: Path) -> None:
    """Raise ValueError when no folder can be made or written here."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise ValueError(f"out={str(folder)!r} cannot be a folder: {place} is a file.")
    if not os.access(place, os.W_OK):
        raise ValueError(f"out={str(folder)!r} cannot be written: this user may not write to {place}.")
