"""Checkpoints of a run while it goes on: when they are due, what is in them."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from steepest.checkpoint import Checkpoints
from steepest.loop.run import Run

INTERVAL = 300.0
"""Seconds between two checkpoints where nothing else is asked for."""


class Saving:
    """Saves a run: every so many steps, or every five minutes. None of it touches what is trained.

    facts: returns what stands beside the tensors, plain data. extra: state of the company, in the tree under "sitting".
    """

    def __init__(
        self, run: Run, checkpoints: Checkpoints, every: int | None, facts: Callable[[], dict[str, Any]]
    ) -> None:
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise ValueError(f"checkpoint_every is a number of steps, 1 or more, or None; received {every!r}.")
        self.checkpoints = checkpoints
        self._run, self._every, self._facts = run, every, facts
        self.seconds = 0.0  # that the last save took of the training
        self._due = perf_counter() + INTERVAL

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        if self._every is not None:
            return self._run.position.step % self._every == 0
        return perf_counter() >= self._due

    def save(self, extra: dict[str, Any], score: float | None = None, *, wait: bool = False) -> None:
        """Save the run as it stands. score: its loss on val, if that is the lowest so far."""
        began = perf_counter()
        tree = {**self._run.state_dict(), "sitting": extra}
        self.checkpoints.save(self._run.position.step, tree, facts=self._facts(), score=score, wait=wait)
        self._due = perf_counter() + INTERVAL
        self.seconds = perf_counter() - began
