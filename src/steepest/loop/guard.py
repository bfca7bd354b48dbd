"""The way back from weights that have blown up, for a run whose rate was chosen for its user."""

import math
from collections.abc import Callable
from dataclasses import asdict
from statistics import median
from typing import Any

from torch.optim import Optimizer

from steepest.loop.average import Average
from steepest.loop.course import WINDOW, Course
from steepest.loop.gradient import Gradient
from steepest.loop.kept import Kept
from steepest.loop.step import Step

NONFINITE = 3
"""So many losses of 20 that are not finite are no accident."""

SNAPSHOTS = 50
"""Weights are kept so often in a run, at the most; of an open one, whenever its steps have grown by this part."""

BETTER = 0.25
"""Older weights are to undo so much of what a loss is above the lowest, to be gone back to."""

LAST, WITHIN = 3, 0.1
"""After so many returns within this part of the run there are no more: what they are against is not the rate."""


class Guard:
    """Keeps weights that were good, and goes back to them at half the rate when training has blown up.

    That is suspected when 3 of the last 20 losses were not finite, or when all 20 are far up. Then the batch at hand is
    tried with the weights that were kept, and only if it fares better the run goes on from them and their optimizer
    state. Where data are at fault, or have become harder, it does not, and nothing is done. Data and schedule go on
    either way; steps are not given back.

    Weights are kept at 50 places of the run, 20 steps apart at least, when the loss of a batch with these very weights
    has shown them to be good: so one copy is enough. It takes the memory of weights, buffers and optimizer state once
    more, on their device and in each checkpoint. Losses of an accelerator are read one step late, when they have long
    arrived; it is waited for at the 50 places, and where something is suspected.
    """

    def __init__(self, gradient: Gradient, optimizer: Optimizer, average: Average) -> None:
        self.factor = 1.0  # of the rate
        self.course = Course()
        self.say: Callable[[str], None] = lambda text: None
        self.note: Callable[[dict[str, Any]], None] = lambda event: None
        self._gradient, self._optimizer, self._average = gradient, optimizer, average
        self._kept = Kept(gradient.model, optimizer)
        self._due = 0.0  # the part of the run from which on weights are to be kept again
        self._coming: Callable[[], float] | None = None  # reads the loss of the last step
        self._returns: list[float] = []  # the parts of the run
        self._blames = True  # the weights, for losses that are not finite

    def look(self, batch: Any, step: Step, done: float) -> Step:
        """Take in a step before its update; return it, or one in its place, whose gradient is to be used.

        done: the part of the run that is behind.
        """
        if self._coming is not None:
            self.course.add(self._coming())
        if self._may_go_back() and self._suspects(step):
            step = self._try(batch, step, done)
        elif done >= self._due and self._good(step):
            self._keep(step, done)
        self._coming = step.loss_later()
        return step

    def _may_go_back(self) -> bool:
        last = self._returns[-LAST:]
        return self._kept.step is not None and (len(last) < LAST or last[-1] - last[0] > WITHIN)

    def _suspects(self, step: Step) -> bool:
        """Whether training may have blown up, which this batch can show."""
        if self.course.blown_up():
            return math.isfinite(step.loss)
        return self.course.nonfinite >= NONFINITE - 1 and self._blames and not math.isfinite(step.loss)

    def _good(self, step: Step) -> bool:
        """Whether the weights that a step begins with are worth keeping."""
        if self._kept.step is None:
            return math.isfinite(step.loss)
        due = step.index >= self._kept.step + WINDOW
        return due and self.course.good() and step.loss <= self.course.bound

    def _keep(self, step: Step, done: float) -> None:
        self._due = done + 1 / SNAPSHOTS
        if not self._kept.keep(step.index):
            self._due = math.inf
            self.say("there is no room for a second copy of the weights: if training blows up, there is no way back")

    def _try(self, batch: Any, step: Step, done: float) -> Step:
        """Find out whether it is the weights; return the step to go on with."""
        now, lowest = step.loss, self.course.lowest
        self._kept.exchange()
        trial = self._again(batch, step)
        if trial.loss < (now - BETTER * (now - lowest) if math.isfinite(now) else math.inf):
            self._go_back(step, trial, done)
        else:
            self._kept.exchange()
            trial = self._stay(batch, step, trial)
        self.course.forget()
        return trial

    def _again(self, batch: Any, step: Step) -> Step:
        """Compute the gradient of the batch once more, at the weights that are in place."""
        trial = Step(step.index, step.epoch)
        self._optimizer.zero_grad()
        self._gradient.compute(batch, trial)
        return trial

    def _go_back(self, step: Step, trial: Step, done: float) -> None:
        """Go on from the weights that are kept, and are in place."""
        kept = self._kept
        assert kept.step is not None
        kept.restore_optimizer()
        kept.keep(kept.step)
        self._average.begin_anew()
        self.factor /= 2
        self._returns.append(done)
        self.note({"step": step.index, "to": kept.step, "rate": self.factor, "loss": step.loss, "then": trial.loss})
        self._tell(step, trial, "training goes on from those, at half the rate")

    def _stay(self, batch: Any, step: Step, trial: Step) -> Step:
        """Go on with the weights that there were."""
        if not math.isfinite(step.loss):
            self._blames = False
            self._tell(step, trial, "such batches are skipped")
            return step
        self._tell(step, trial, "nothing is done, for it may be the data")
        self.course.begin_at_latest()
        return self._again(batch, step)

    def _tell(self, step: Step, trial: Step, done: str) -> None:
        what = f"{NONFINITE} of {WINDOW} losses were not finite"
        if math.isfinite(step.loss):
            what = f"the loss has risen from {self.course.lowest:.4g} to {median(self.course.recent):.4g}"
        there = f"is {trial.loss:.4g} with the weights of step {self._kept.step}"
        self.say(f"step {step.index}: {what}; that of this batch, {step.loss:.4g}, {there}: {done}")

    def state_dict(self) -> dict[str, Any]:
        """Return all that the guard knows, and the weights that it keeps."""
        return {
            "factor": self.factor, "course": asdict(self.course), "kept": self._kept.state_dict(), "due": self._due,
            "last": None if self._coming is None else self._coming(), "returns": list(self._returns),
            "blames": self._blames,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.factor, self._due, self._blames = state["factor"], state["due"], state["blames"]
        self.course, self._returns, last = Course(**state["course"]), list(state["returns"]), state["last"]
        self._coming = None if last is None else lambda: last
        self._kept.load_state_dict(state["kept"])
