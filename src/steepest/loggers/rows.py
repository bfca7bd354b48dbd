"""The rows of a run, read back from its event file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KINDS = ("step", "evaluation")
"""Events that are rows."""

_NOT_OF_THE_ROW = ("event", "time", "nonfinite")


def rows(events: Path) -> list[dict[str, Any]]:
    """Return the rows in the order of their events; what a resumption replaced is left out.

    The rows of a run taken up at step s, 0 when it begins anew, replace those of its steps from s on. An evaluation at
    s was made after step s - 1, before the run was left, so it stays. A line that no newline ends is half-written.
    """
    kept: list[dict[str, Any]] = []
    for event in _events(events):
        kind = event.get("event")
        if kind == "resume":
            kept = before(kept, int(event["step"]))
        elif kind in KINDS:
            kept.append(event)
    return [_row(event) for event in kept]


def before(kept: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the rows that a run which begins at this step does not make again."""
    return [row for row in kept if row["step"] < step or (row["step"] == step > 0 and is_evaluation(row))]


def is_evaluation(row: dict[str, Any]) -> bool:
    """Say whether this is the row of an evaluation; the others are of steps."""
    return any(key.startswith("val/") for key in row)


def _events(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event


def _row(event: dict[str, Any]) -> dict[str, Any]:
    row = {key: value for key, value in event.items() if key not in _NOT_OF_THE_ROW}
    for key, value in event.get("nonfinite", {}).items():
        if key in row:
            row[key] = float(value)
    return row
