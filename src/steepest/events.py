"""The event file of a run as text: one JSON object a line, `events.jsonl`. Written by the loop, read by everyone."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "events.jsonl"
_ENCODER = json.JSONEncoder(allow_nan=False)  # json.dumps would make one at each call
ROWS = ("step", "evaluation")
"""Events that are rows of the history."""


def encode(event: dict[str, Any]) -> str:
    """Return an event as one line of JSON.

    JSON has no NaN and no infinity: they become null, and the key "nonfinite" says which they were.
    """
    try:
        return _ENCODER.encode(event)
    except (ValueError, TypeError):
        nonfinite: dict[str, str] = {}
        clean = {key: _clean(key, value, nonfinite) for key, value in event.items()}
        if nonfinite:
            clean["nonfinite"] = nonfinite
        return _ENCODER.encode(clean)


def decode(line: str | bytes) -> dict[str, Any]:
    """Return the event of a line, with NaN and infinity where they were at its top level; ValueError for no event."""
    event = json.loads(line)
    if not isinstance(event, dict):
        raise ValueError(f"an event is an object, and this line is {str(line)[:60]!r}")
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


def read(path: Path) -> Iterator[dict[str, Any]]:
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


def rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the history that are in force.

    After an event "resume" with a step, rows stand in place of those that had been written for later steps.
    """
    kept: list[dict[str, Any]] = []
    for event in read(path):
        if event.get("event") == "resume":
            kept = before(kept, event["step"])
        elif event.get("event") in ROWS:
            kept.append({key: value for key, value in event.items() if key not in ("event", "time")})
    return kept


def before(kept: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the rows that a run which goes on from this step does not make again.

    The row of a step bears its index, counted from 0; an evaluation at s was made after step s - 1.
    """
    return [row for row in kept if row["step"] < step or (row["step"] == step > 0 and is_evaluation(row))]


def is_evaluation(row: dict[str, Any]) -> bool:
    """Say whether this is the row of an evaluation; the others are of steps."""
    return any(key.startswith("val/") for key in row)
