"""One sitting of a run: the steps that a process makes, with all that goes with them."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any, Protocol

from steepest.data import Source
from steepest.loop.evaluate import Metrics, evaluate
from steepest.loop.journal import Journal
from steepest.loop.run import Run
from steepest.loop.saving import Saving
from steepest.loop.signals import Interrupted, interruption
from steepest.loop.step import Step

EVALUATIONS = 10
"""`val` is evaluated so many times in a run, evenly, the last time at its end.

In an open run, whenever its steps have grown by a tenth, 50 at least."""


class View(Protocol):
    """Where a run shows itself."""

    def step(self, step: Step) -> None:
        """Show a step, if it is time."""
        ...

    def say(self, text: str) -> None:
        """Show a line that stays."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated during a run. every: in steps; None: ten times in the run.

    patience: end the run after so many evaluations in a row without a loss below the lowest, an open one by its final
    decay; None: never.
    """

    source: Source
    metrics: Metrics
    every: int | None = None
    patience: int | None = None


@dataclass
class Scores:
    """What evaluations found so far. best: the lowest loss; stale: evaluations since; parts: of the run, done.

    at: the step of the last one. seconds: what it took.
    """

    best: float = math.inf
    stale: int = 0
    parts: int = 0
    at: int = 0
    seconds: float = 0.0


class Sitting:
    """Takes the steps of a run and evaluates, records, shows and saves them.

    saving: None keeps nothing. troubles: who may have something to say; asked after evaluations and saves.
    """

    def __init__(
        self, run: Run, journal: Journal, view: View, evaluation: Evaluation | None, saving: Saving | None
    ) -> None:
        self.run, self.journal, self.view = run, journal, view
        self.evaluation, self.saving = evaluation, saving
        self.troubles: list[Callable[[], list[str]]] = [] if saving is None else [saving.checkpoints.problems]
        self.scores = Scores()
        if run.guard is not None:
            run.guard.note = journal.rewind
        self._lowest: float | None = None  # the loss on val at this step, if it is the lowest so far
        self._asked = False  # by a signal, for the final decay of an open run

    def ended(self) -> str | None:
        """Return how the run ended, if nothing is left to do: "finished", or "stopped" by patience."""
        if self.evaluation is None:
            return "finished" if self.run.over() else None
        if self._missed() is not None:
            return None
        stopped = self._out_of_patience() and not self.run.budget.open
        return "finished" if self.run.over() else "stopped" if stopped else None

    def _out_of_patience(self) -> bool:
        patience = None if self.evaluation is None else self.evaluation.patience
        return patience is not None and self.scores.stale >= patience

    def _missed(self) -> Evaluation | None:
        """Return the evaluation that is due at this step and has not been made."""
        evaluation = self.evaluation
        if evaluation is None or self.run.position.step <= self.scores.at:
            return None
        return evaluation if self._is_due(evaluation) else None

    def train(self) -> str:
        """Make the steps; return how it ended: "finished", "stopped" by patience, "interrupted" or "terminated"."""
        if self.run.endless:
            self.view.say(
                "this run has no budget: Ctrl-C begins a decay of the rate to zero, which ends it, and a second one "
                "ends it after the step"
            )
        with interruption(self._ask) if self.run.endless else interruption() as interrupted:
            status = self._steps(interrupted)
            if status in ("finished", "stopped") and self.run.guard is not None and self.run.guard.course.worse():
                self.view.say(self.run.guard.course.worse())
            if self.saving is not None:
                self._save(wait=True)
        return status

    def _steps(self, interrupted: Interrupted) -> str:
        try:
            if self._missed() is not None or self._finishes():  # a signal came before it, or into it
                status = self._look(interrupted)
                if status is not None:
                    return status
            for step in self.run:
                status = self.after(step, interrupted)
                if status is not None:
                    return status
        except Exception as error:
            if self.run.waiting and interrupted():  # Ctrl-C ended the processes that read the data
                return interrupted() or "interrupted"
            if self.run.waiting and self._asked:  # the same, in an open run
                self._finish("asked to end")
                self.run.read_again()
                return self._steps(interrupted)
            self._rescue(error)
            raise
        return self.ended() or "finished"

    def after(self, step: Step, interrupted: Interrupted) -> str | None:
        """Do what goes with a step; return how the run ended, if it did."""
        self.journal.step(step)
        self.view.step(step)
        return self._look(interrupted)

    def _look(self, interrupted: Interrupted) -> str | None:
        """Evaluate and save, where it is time; return how the run ended, if it did."""
        self._lowest, missed = None, self._missed()
        if missed is not None and not interrupted():
            self._evaluate(missed, interrupted)
        ended = self.ended() or interrupted()
        finish = ended is None and self._finishes()
        if ended is None and self.saving is not None and (finish or self._lowest is not None or self.saving.due()):
            self._save()  # of an open run also before its final decay: killed in that, it is open as before
        if finish:
            self._finish("asked to end" if self._asked else "the loss on val does not fall any more")
        return ended

    def _ask(self) -> bool:
        """Take a signal as the wish for the final decay, if the run has no end yet; return whether it is that."""
        if self._asked or not self.run.endless:
            return False
        self._asked = True
        return True

    def _finishes(self) -> bool:
        """Whether it is time for the final decay of an open run."""
        return self.run.endless and (self._asked or self._out_of_patience())

    def _finish(self, why: str) -> None:
        """Begin the final decay of an open run, and say so."""
        self.run.finish()
        self._asked = False
        self.view.say(f"{why}: the rate falls to zero until step {self.run.steps}, where the run ends")

    def _is_due(self, evaluation: Evaluation) -> bool:
        run = self.run
        if run.over():
            return True
        if evaluation.every is not None:
            return run.position.step % evaluation.every == 0
        return _parts(run) > self.scores.parts

    def _evaluate(self, evaluation: Evaluation, interrupted: Interrupted) -> None:
        began, scores = perf_counter(), self.scores
        found = evaluate(self.run, evaluation.source, evaluation.metrics, interrupted)
        if found is None:
            return
        scores.parts, scores.at, scores.seconds = _parts(self.run), self.run.position.step, perf_counter() - began
        better = found["loss"] < scores.best
        scores.best, scores.stale = (found["loss"], 0) if better else (scores.best, scores.stale + 1)
        self._lowest = found["loss"] if better else None
        row = {f"val/{name}": value for name, value in found.items()}
        self.journal.evaluation({"step": self.run.position.step, **row})
        steps = "" if self.run.steps is None else f"/{self.run.steps}"
        self.view.say(f"step {self.run.position.step}{steps}  {words(row)}")
        self._set_reserve()
        self.tell()

    def _set_reserve(self) -> None:
        """Keep the time free that the last evaluation and the last checkpoint will take."""
        self.run.budget.reserve = self.scores.seconds + (0.0 if self.saving is None else self.saving.seconds)

    def _save(self, *, wait: bool = False) -> None:
        assert self.saving is not None
        self.saving.save(asdict(self.scores), self._lowest, wait=wait)
        self._set_reserve()
        self.tell()

    def _rescue(self, error: Exception) -> None:
        """Save a run that fails where all of its updates are whole, so that what was learned is not lost."""
        between = self.run.waiting or any("the evaluation of" in note for note in getattr(error, "__notes__", ()))
        if self.saving is None or not between or self.run.position.step == 0:
            return
        try:
            self._save(wait=True)
        except Exception as another:
            error.add_note(f"It could not be saved either: {another}")

    def tell(self) -> None:
        """Show what went wrong beside the training."""
        for ask in self.troubles:
            for trouble in ask():
                self.view.say(trouble)


def _parts(run: Run) -> int:
    """Return how many of the ten parts of the run are behind; of steps, rounded as their milestones are."""
    if run.steps is None or run.budget.open:
        return int(run.done() * EVALUATIONS)
    return sum(run.position.step >= max(1, round(run.steps * part / EVALUATIONS)) for part in range(1, EVALUATIONS + 1))


def words(row: dict[str, Any]) -> str:
    """Return the numbers of a history row in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items() if isinstance(value, float))
