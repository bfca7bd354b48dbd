"""Loops of people with different habits, for programs whose fault is not in the loop. A world says which is its own."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from faults.case import Loss, Measure, Run
from faults.second.batches import stream
from faults.second.worlds import made, world


class Job:
    """What a loop needs; made of a run, with what the world offers where nothing else is given."""

    def __init__(self, run: Run, model: nn.Module, optimizer: Any, **given: Any) -> None:
        here = world(run)
        self.run, self.model, self.optimizer = run, model, optimizer
        self.loss: Loss = given.get("loss") or here.loss
        self.data: Any = here.data() if given.get("data") is None else given["data"]
        self.steps: int = given.get("steps") or here.steps
        self.look: Callable[[nn.Module], float] = here.measure

    def epochs(self) -> int:
        """Return how many epochs make so many steps, about."""
        return max(1, round(self.steps / len(self.data)))

    def watched(self, scheduler: Any = None) -> Any:
        """Return what watches."""
        return self.run.watch(self.model, self.optimizer, loss=self.loss, scheduler=scheduler)


def train(run: Run, model: nn.Module | None = None, optimizer: Any = None, **given: Any) -> Measure:
    """Train as the world's people do; loss, data, steps and measure: other than the world's. Return the measure."""
    model = world(run).model() if model is None else model
    job = Job(run, model, made(run, model) if optimizer is None else optimizer, **given)
    model.train()
    LOOPS[given.get("manner") or world(run).manner](job)
    measure = given.get("measure") or world(run).measure
    return lambda: measure(model)


def by_steps(job: Job) -> None:
    """One stream of batches; gradients are cleared by hand before the next is read."""
    doctor = job.watched()
    for batch in doctor(stream(job.data, job.steps)):
        loss = job.loss(job.model, batch)
        loss.backward()
        job.optimizer.step()
        for each in job.model.parameters():
            each.grad = None


def by_epochs(job: Job) -> None:
    """Epochs, the plainest loop there is."""
    doctor = job.watched()
    for _ in range(job.epochs()):
        for batch in doctor(job.data):
            job.optimizer.zero_grad()
            job.loss(job.model, batch).backward()
            job.optimizer.step()


def checked(job: Job) -> None:
    """Epochs, and after each a look at other data in evaluation mode."""
    doctor, seen = job.watched(), []
    for _ in range(job.epochs()):
        job.model.train()
        for batch in doctor(job.data):
            job.optimizer.zero_grad(set_to_none=False)
            loss = job.loss(job.model, batch)
            loss.backward()
            job.optimizer.step()
        seen.append(job.look(job.model))
    job.model.train()


class Trainer:
    """A class with a method for each thing, and batches that are dicts or tuples."""

    def __init__(self, job: Job) -> None:
        self.job, self.history = job, []
        self.doctor = job.watched()

    def step(self, batch: Any) -> float:
        """Learn from a batch."""
        loss = self.job.loss(self.job.model, batch)
        self.job.optimizer.zero_grad()
        loss.backward()
        self.job.optimizer.step()
        return float(loss.detach())

    def fit(self) -> None:
        """Go through the data as often as it takes."""
        for _ in range(self.job.epochs()):
            self.history += [self.step(batch) for batch in self.doctor(self.job.data)]


def unpacked(job: Job) -> None:
    """The batch is taken apart in the head of the loop and put together for the loss, which is a lambda."""
    loss_fn = job.loss
    doctor = job.run.watch(job.model, job.optimizer, loss=lambda model, batch: loss_fn(model, batch))
    for first, *others in doctor(stream(job.data, job.steps)):
        job.optimizer.zero_grad()
        loss = loss_fn(job.model, (first, *others))
        loss.backward()
        job.optimizer.step()


def closure(job: Job) -> None:
    """The step is given a closure."""
    doctor = job.watched()
    for batch in doctor(stream(job.data, job.steps)):

        def again(batch: Any = batch) -> Tensor:
            job.optimizer.zero_grad()
            loss = job.loss(job.model, batch)
            loss.backward()
            return loss

        job.optimizer.step(again)


def clipped(job: Job) -> None:
    """Gradients are clipped where they are unusually large."""
    doctor = job.watched()
    for _, batch in enumerate(doctor(stream(job.data, job.steps))):
        job.optimizer.zero_grad()
        job.loss(job.model, batch).backward()
        nn.utils.clip_grad_norm_(job.model.parameters(), 5.0)
        job.optimizer.step()


def averaged(job: Job) -> None:
    """A mean of the weights follows the training and takes their place at the end."""
    doctor, mean = job.watched(), deepcopy(job.model).requires_grad_(False)
    for step, batch in enumerate(doctor(stream(job.data, job.steps))):
        job.optimizer.zero_grad()
        job.loss(job.model, batch).backward()
        job.optimizer.step()
        for slow, fast in zip(mean.parameters(), job.model.parameters(), strict=True):
            slow.lerp_(fast.detach(), max(0.05, 1 / (step + 1)))
    with torch.no_grad():
        for slow, fast in zip(mean.parameters(), job.model.parameters(), strict=True):
            fast.copy_(slow)


def planned(job: Job) -> None:
    """A warmup and a cosine, batch by batch."""
    scheduler = lr_scheduler.SequentialLR(job.optimizer, [
        lr_scheduler.LinearLR(job.optimizer, 0.1, total_iters=10),
        lr_scheduler.CosineAnnealingLR(job.optimizer, job.steps),
    ], [10])  # fmt: skip
    doctor = job.watched(scheduler)
    for batch in doctor(stream(job.data, job.steps)):
        job.optimizer.zero_grad()
        job.loss(job.model, batch).backward()
        job.optimizer.step()
        scheduler.step()


def accumulating(job: Job) -> None:
    """Two batches make a step."""
    doctor = job.watched()
    for at, batch in enumerate(doctor(stream(job.data, job.steps))):
        (job.loss(job.model, batch) / 2).backward()
        if at % 2:
            job.optimizer.step()
            job.optimizer.zero_grad()


def autocast(job: Job) -> None:
    """The forward pass is in bfloat16."""
    loss_fn = job.loss

    def mixed(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss_fn(model, batch).float()

    job.loss = mixed
    by_steps(job)


LOOPS: dict[str, Callable[[Job], None]] = {
    "steps": by_steps, "epochs": by_epochs, "checked": checked, "trainer": lambda job: Trainer(job).fit(),
    "unpacked": unpacked, "closure": closure, "clipped": clipped, "averaged": averaged, "planned": planned,
    "accumulating": accumulating, "autocast": autocast,
}  # fmt: skip
