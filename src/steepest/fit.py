"""`fit`: a run with the usual company of evaluation, progress, an event file and Ctrl-C."""

import platform
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steepest import __version__, pilot
from steepest.data import Source, open_source
from steepest.loop import Factor, Loss, Run, checks
from steepest.loop.evaluate import Metrics, averaged, evaluate
from steepest.loop.events import EventFile
from steepest.loop.interrupt import interruption
from steepest.loop.journal import Journal
from steepest.loop.run import place
from steepest.record import Finding, Plan
from steepest.report.terminal import Screen, row_words, screen
from steepest.snapshot import seed_everything

EVALUATIONS = 10
"""`val` is evaluated so many times in a run, evenly, the last time at its end."""


@dataclass
class Result:
    """A trained model and what is known about its training.

    model: with the weights that evaluation sees, which is their mean where the optimizer keeps one.
    status: "finished", or "interrupted" by Ctrl-C. steps: updates done; skipped: how many of them were not made because
    the loss was not finite. history: rows as `steepest.loop.journal.Journal` describes them. plan: None when the
    optimizer was given.
    """

    model: nn.Module
    plan: Plan | None
    history: list[dict[str, Any]]
    out: Path | None
    status: str
    steps: int
    skipped: int
    seconds: float
    findings: list[Finding] = field(default_factory=list)

    def last(self, name: str) -> float:
        """Return the newest value of a number in the history, as "val/loss"."""
        for row in reversed(self.history):
            if name in row:
                return row[name]
        names = sorted({key for row in self.history for key in row})
        raise KeyError(f"The history holds no {name!r}; it holds {', '.join(names)}.")

    def __repr__(self) -> str:
        return f"Result({self.status}, {self.steps} steps in {self.seconds:.1f} s, {row_words(self.history[-1])})"


def fit(  # noqa: PLR0913
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    val: Any = None,
    metrics: Metrics | None = None,
    optimizer: Optimizer | None = None,
    schedule: Factor | None = None,
    batch_size: int = 32,
    clip: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    log: bool = True,
    device: str | torch.device | None = None,
) -> Result:
    """Train the model and return it with what is known about its training.

    loss: loss(model, batch) -> a scalar tensor, or a dict of them with the key "loss".
    data: arrays or tensors, a Dataset, a DataLoader or another iterable of batches.
    steps, epochs: the budget, one of the two.
    val: data of the same kinds, evaluated ten times in the run and at its end, each time one pass.
    metrics: name -> function(model, batch), averaged over val; each costs what it computes.
    optimizer: None: the pilot chooses rule, rate and schedule, and the result holds its plan.
    schedule: schedule(step, steps) -> factor of the rate, for an optimizer that is given.
    batch_size: rows or samples in an update, where the data is not in batches already.
    clip: the largest norm that the gradient may have; costs one pass over the gradients.
    seed: of the data's order and of every random number generator; they are set when training begins.
    out: a folder for `events.jsonl`. log: show progress. device: where to train; None: where the model is.

    Ctrl-C ends training after the current step, with the model as it is; a second one raises KeyboardInterrupt.
    """
    checks.check_model(model)
    if schedule is not None and optimizer is None:
        raise ValueError("schedule= goes with optimizer=; without one the pilot chooses both.")
    checks.check_seed(seed)
    seed_everything(seed)
    place(model, device)
    plan = None
    if optimizer is None:
        choice = pilot.choose(model)
        optimizer, schedule, plan = choice.optimizer, choice.schedule, choice.plan
    run = Run(
        model, loss, data, optimizer=optimizer, steps=steps, epochs=epochs, schedule=schedule, batch_size=batch_size,
        clip=clip, seed=seed,
    )  # fmt: skip
    measured = checks.check_metrics(metrics, val)
    evaluation = None if val is None else Evaluation(open_source(val, batch_size, None), measured)
    folder = None if out is None else Path(out)
    start = {"config": _config(run, batch_size, seed), "versions": _versions(), "plan": plan and plan.to_dict()}
    with nullcontext() if folder is None else EventFile(folder) as file, screen(run.steps, log) as view:
        journal = Journal(start, run.steps, file)
        if plan is not None:
            view.say(str(plan))
        began = perf_counter()
        status = _watched(run, evaluation, journal, view)
        keep_average(run.optimizer)
        seconds = perf_counter() - began
    view.say(_farewell(run, status, seconds, folder))
    skipped = run.position.skipped
    return Result(model, plan, journal.history, folder, status, run.position.step, skipped, seconds)


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated during a run."""

    source: Source
    metrics: Metrics


def _watched(run: Run, evaluation: Evaluation | None, journal: Journal, view: Screen) -> str:
    """Train, and let the journal know how it ended."""
    try:
        status = _train(run, evaluation, journal, view)
    except BaseException as error:
        journal.end("failed", steps=run.position.step, error=f"{type(error).__name__}: {error}")
        raise
    journal.end(status, steps=run.position.step, skipped=run.position.skipped)
    return status


def _train(run: Run, evaluation: Evaluation | None, journal: Journal, view: Screen) -> str:
    """Make the run's steps with everything that goes with them; return how it ended."""
    milestones = {round(run.steps * part / EVALUATIONS) for part in range(1, EVALUATIONS + 1)}
    with interruption() as interrupted:
        for step in run:
            journal.step(step)
            view.step(step)
            done = step.index + 1
            if evaluation is not None and done in milestones and not interrupted():
                scores = evaluate(run, evaluation.source, evaluation.metrics, interrupted)
                if scores is not None:
                    row = {f"val/{name}": value for name, value in scores.items()}
                    journal.evaluation({"step": done, **row})
                    view.say(f"step {done}/{run.steps}  {row_words(row)}")
            if interrupted() and done < run.steps:
                return "interrupted"
    return "finished"


@torch.no_grad()
def keep_average(optimizer: Optimizer) -> None:
    """Leave the model with the weights to evaluate at, now that it is not trained any further."""
    if not hasattr(optimizer, "averaged"):
        return
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with averaged(optimizer):
        means = [weight.detach().clone() for weight in weights]
    for weight, mean in zip(weights, means, strict=True):
        weight.copy_(mean)


def _farewell(run: Run, status: str, seconds: float, folder: Path | None) -> str:
    done = run.position.step
    where = "" if folder is None else f"; events in {folder / 'events.jsonl'}"
    if status == "finished":
        return f"finished {done} steps in {seconds:.1f} s{where}"
    return f"interrupted after {done} of {run.steps} steps, {seconds:.1f} s; the model is as step {done} left it{where}"


def _config(run: Run, batch_size: int, seed: int) -> dict[str, Any]:
    return {
        "steps": run.steps, "batch_size": batch_size, "seed": seed, "clip": run.clip, "device": str(run.device),
        "model": type(run.model).__name__, "parameters": sum(each.numel() for each in run.model.parameters()),
        "optimizer": type(run.optimizer).__name__, "schedule": None if run.schedule is None else repr(run.schedule),
    }  # fmt: skip


def _versions() -> dict[str, str]:
    return {"steepest": __version__, "torch": torch.__version__, "python": platform.python_version()}
