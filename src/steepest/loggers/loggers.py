"""All loggers of a run together, as the training loop sees them."""

import os
from pathlib import Path
from time import monotonic
from typing import Any

from steepest.loggers.delivery import Delivery
from steepest.loggers.memory import Memory
from steepest.loggers.names import chosen
from steepest.loggers.queue import Alert

OPENING = 10.0
"""Training waits so many seconds for loggers that are being opened; they may go on opening beside it."""

CLOSING = 10.0
"""The end of a run waits so many seconds for what is still to be delivered."""


class Loggers:
    """Sends rows to loggers; nothing that a logger does can raise here or hold up the caller.

    log: "tensorboard", "wandb", "mlflow", "trackio", a function that takes a row, or a list of these; what cannot be
    is refused at once. out: the run's folder, with its `events.jsonl`; without it nothing is remembered for a
    resumption. run: its name at the loggers. config: its settings, shown there.

    >>> rows = []
    >>> loggers = Loggers(rows.append, out=None, run="demo", config={})
    >>> loggers.begin(0)
    >>> loggers.write({"step": 0, "train/loss": 0.5})
    >>> loggers.close("finished")
    >>> rows
    [{'step': 0, 'train/loss': 0.5}]
    """

    def __init__(self, log: Any, *, out: Path | None, run: str, config: dict[str, Any]) -> None:
        events = None if out is None else out / "events.jsonl"
        self._deliveries = [
            Delivery(logger, Memory(out, logger.name, config), events, config) for logger in chosen(log, out, run)
        ]
        self._process = os.getpid()
        self._step = 0
        self._closed = False

    def begin(self, step: int) -> None:
        """Open the loggers; step is the first that this process will report, above 0 when a run is taken up again."""
        self._step = step
        for delivery in self._deliveries:
            delivery.begin(step)
        deadline = monotonic() + OPENING
        for delivery in self._deliveries:
            delivery.opened.wait(max(0.0, deadline - monotonic()))

    def write(self, row: dict[str, Any]) -> None:
        """Send a row: "step", and numbers under their names."""
        if self._closed or os.getpid() != self._process:
            return
        self._step = row["step"]
        row = dict(row)
        for delivery in self._deliveries:
            if not delivery.troubles.out:
                delivery.queue.put(row)

    def say(self, title: str, text: str) -> None:
        """Send a message, at the step of the last row."""
        if self._closed or os.getpid() != self._process:
            return
        for delivery in self._deliveries:
            if not delivery.troubles.out:
                delivery.queue.put(Alert(title, text, self._step))

    def problems(self) -> list[str]:
        """Return a sentence for each thing that went wrong since the last call."""
        return [sentence for delivery in self._deliveries for sentence in delivery.troubles.news()]

    def close(self, status: str) -> None:
        """Deliver what waits, for ten seconds at most, and say at the loggers how the run ended."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        for delivery in self._deliveries:
            delivery.end(status)
        deadline = monotonic() + CLOSING
        for delivery in self._deliveries:
            delivery.join(deadline - monotonic())
