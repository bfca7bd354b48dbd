"""What is kept of a run: rows in memory, and the same rows in the event file and with the loggers."""

import time
from collections.abc import Callable
from typing import Any

from steepest.events import before, rows
from steepest.loop.event_file import EventFile
from steepest.loop.run import Run
from steepest.loop.step import Step

ROWS = 500
"""A run leaves about so many rows of steps, however long it is: enough for a curve, at 0.1 ms each.

An open run leaves one of its first 500 steps each, and one whenever its steps have grown by 1/500."""


class Journal:
    """Writes rows to `history`, as events to the file if there is one, and gives them to `listeners`.

    A row of a step has "step", "epoch", "train/loss", "lr", "grad_norm", "seconds" and what else the loss returned, as
    "train/<name>"; of an evaluation "step" and "val/<name>". Skipped steps always have a row, with "skipped".
    """

    def __init__(self, run: Run, start: dict[str, Any], file: EventFile | None) -> None:
        self.start = start
        self.history: list[dict[str, Any]] = []
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._run, self._file = run, file
        self._interval = 1 << 62 if run.steps is None else max(1, run.steps // ROWS)
        self._part = 0.0  # of a run measured in time, that is behind when the next row is due
        self._started = False

    def recall(self, step: int) -> None:
        """Take up the history of a run that was left after so many updates."""
        if self._file is not None:
            self.history = before(rows(self._file.path), step)

    def resume(self, step: int) -> None:
        """Go on from there: what the file holds of later steps is no longer in force."""
        self.recall(step)
        self._write("resume", {"step": step})

    def step(self, step: Step) -> None:
        """Keep a row of this step if its turn has come."""
        if step.index % self._interval and not step.skipped and not self._due(step):
            return
        row: dict[str, Any] = {
            "step": step.index, "epoch": step.epoch, "train/loss": step.loss, "lr": step.lr,
            "grad_norm": step.grad_norm, "seconds": step.seconds,
        }  # fmt: skip
        row |= {f"train/{name}": value for name, value in step.metrics.items()}
        if step.skipped:
            row["skipped"] = True
        self._keep("step", row)

    def _due(self, step: Step) -> bool:
        if self._run.budget.open:
            return self._run.entered(ROWS) or self._run.over()
        if self._run.steps is not None:
            return step.index == self._run.steps - 1
        if self._run.done() < self._part:
            return False
        self._part = self._run.done() + 1 / ROWS
        return True

    def evaluation(self, row: dict[str, Any]) -> None:
        """Keep the row of an evaluation."""
        self._keep("evaluation", row)

    def rewind(self, event: dict[str, Any]) -> None:
        """Write that the run has gone back to older weights."""
        self._write("rewind", event)

    def finding(self, event: dict[str, Any]) -> None:
        """Write what the doctor has found."""
        self._write("finding", event)

    def end(self, status: str, **more: Any) -> None:
        """Write how the run ended; nothing if it failed before its first step."""
        if self._started or self.history:
            self._write("end", {"status": status, **more})

    def _keep(self, kind: str, row: dict[str, Any]) -> None:
        self.history.append(row)
        self._write(kind, row)
        for listener in self.listeners:
            listener(row)

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if self._file is None:
            return
        if not self._started:
            self._file.write(_event("start", self.start))
            self._started = True
        self._file.write(_event(kind, fields))


def _event(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"event": kind, "time": round(time.time(), 3), **fields}
