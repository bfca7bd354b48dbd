"""What is kept of a run: rows in memory, and the same rows in the event file."""

import time
from typing import Any

from steepest.loop.events import EventFile
from steepest.loop.step import Step

ROWS = 1000
"""A run leaves about so many rows of steps, however long it is."""


class Journal:
    """Writes rows to `history`, and as events to the file if there is one.

    A row of a step has "step", "epoch", "train/loss", "lr", "grad_norm", "seconds" and what else the loss returned, as
    "train/<name>"; of an evaluation "step" and "val/<name>". Skipped steps always have a row, with "skipped".
    """

    def __init__(self, start: dict[str, Any], steps: int, file: EventFile | None) -> None:
        self.history: list[dict[str, Any]] = []
        self._interval, self._steps, self._file = max(1, steps // ROWS), steps, file
        self._start: dict[str, Any] | None = _event("start", start)

    def step(self, step: Step) -> None:
        """Keep a row of this step if its turn has come."""
        if step.index % self._interval and not step.skipped and step.index != self._steps - 1:
            return
        row: dict[str, Any] = {
            "step": step.index, "epoch": step.epoch, "train/loss": step.loss, "lr": step.lr,
            "grad_norm": step.grad_norm, "seconds": step.seconds,
        }  # fmt: skip
        row |= {f"train/{name}": value for name, value in step.metrics.items()}
        if step.skipped:
            row["skipped"] = True
        self._keep("step", row)

    def evaluation(self, row: dict[str, Any]) -> None:
        """Keep the row of an evaluation."""
        self._keep("evaluation", row)

    def end(self, status: str, **more: Any) -> None:
        """Write how the run ended; nothing if it failed before its first step."""
        if self.history:
            self._write("end", {"status": status, **more})

    def _keep(self, kind: str, row: dict[str, Any]) -> None:
        self.history.append(row)
        self._write(kind, row)

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if self._file is None:
            return
        if self._start is not None:
            self._file.write(self._start)
            self._start = None
        self._file.write(_event(kind, fields))


def _event(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"event": kind, "time": round(time.time(), 3), **fields}
