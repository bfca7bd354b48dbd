"""What goes with a run by a plan: it is watched whether samples come again, and how noisy the gradient is."""

from typing import Any

from torch import Tensor

from steepest.data import Source, to_device
from steepest.loop import Run
from steepest.loop.checks import split_outputs
from steepest.pilot.choice import Choice
from steepest.pilot.noise import AT, DOUBLINGS, Noise
from steepest.pilot.repeats import Repeats, Watched
from steepest.record import Plan


class Company:
    """Goes with a run; `source` is what the run reads, `hear` wants the rows of its journal."""

    def __init__(self, plan: Plan, choice: Choice, source: Source) -> None:
        self.plan, self.choice = plan, choice
        self.source = Watched(source, self._come_again if choice.watches else None)
        self.noise = Noise(choice.model, self._predict)
        self._run: Run | None = None
        self._marks: list[float] = []

    def join(self, run: Run) -> None:
        """Go with this run."""
        self._run = run
        self._marks = list(DOUBLINGS) if run.budget.open else list(AT) if self.plan.settings["readings"] else []

    def hear(self, row: dict[str, Any]) -> None:
        """Take in a row of the journal."""
        if "train/loss" not in row or "skipped" in row:
            return
        self.source.repeats.hear(row["train/loss"])
        if self._marks and self.run.done() >= self._marks[0]:
            self._read()

    @property
    def run(self) -> Run:
        """The run that this goes with."""
        assert self._run is not None
        return self._run

    def _read(self) -> None:
        """Read the noise, once for all marks that are passed; a loss that does not take half a batch is let be."""
        done = self.run.done()
        self._marks = [mark for mark in self._marks if mark > done]
        try:
            self.noise.read(to_device(self.source.newest, self.run.device))
        except Exception:  # whatever a loss says to half a batch, the run does not need the answer
            self._marks = []

    def _predict(self, part: Any) -> Tensor:
        return split_outputs(self.run.precision.call(self.run.gradient.loss, self.run.model, part), 1)[0]

    def _come_again(self, seen: Repeats) -> str:
        done = 0.0 if self.run.budget.open else self.run.done()
        return self.choice.come_again(seen, done, self.run.position.step)
