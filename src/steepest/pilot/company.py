"""What goes with a run by a plan: it is watched whether samples come again, and how noisy the gradient is."""

from typing import Any

from steepest.data import Source
from steepest.loop import Run
from steepest.pilot.choice import Choice
from steepest.pilot.noise import Noise
from steepest.pilot.repeats import Repeats, Watched
from steepest.record import Plan


class Company:
    """Goes with a run; `source` is what the run reads, `hear` wants the rows of its journal."""

    def __init__(self, plan: Plan, choice: Choice, source: Source) -> None:
        self.plan, self.choice = plan, choice
        self.source = Watched(source, self._come_again if choice.watches else None)
        self.noise = Noise(choice.optimizer, self.source)
        self._run: Run | None = None

    def join(self, run: Run) -> None:
        """Go with this run."""
        self._run = run

    def hear(self, row: dict[str, Any]) -> None:
        """Take in a row of the journal."""
        if "train/loss" in row and "skipped" not in row:
            self.source.repeats.hear(row["train/loss"])
            self.noise.hear(row["step"])

    def _come_again(self, seen: Repeats) -> str:
        assert self._run is not None
        return self.choice.come_again(seen, self._run.done(), self._run.position.step)
