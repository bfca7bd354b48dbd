"""Manners of writing the loop; which one a program has depends on its world where nothing in the loop is at fault."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from faults.blind.worlds import repeated, world
from faults.case import Measure, Run


class Trainer:
    """A class that trains by epochs, with a schedule per epoch and a look at the training loss in between."""

    def __init__(self, run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any) -> None:
        self.model, self.optimizer, self.criterion, self.loader = model, optimizer, loss, data
        self.doctor = run.watch(model, optimizer, loss=loss)
        self.history: list[float] = []

    def training_step(self, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        return self.criterion(self.model, batch)

    def fit(self, epochs: int) -> None:
        """Train."""
        scheduler = lr_scheduler.CosineAnnealingLR(self.optimizer, 2 * epochs)
        for _ in range(epochs):
            self.model.train()
            for batch in self.doctor(self.loader):
                loss = self.training_step(batch)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self.optimizer.step()
            scheduler.step()
            self.look(batch)

    @torch.no_grad()
    def look(self, batch: Any) -> None:
        """Note the loss in evaluation mode."""
        self.model.eval()
        self.history.append(float(self.criterion(self.model, batch)))


def by_trainer(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """Use the class."""
    Trainer(run, model, optimizer, loss, data).fit(epochs)


def by_epochs(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """Two nested loops, and a running mean for the log."""
    doctor = run.watch(model, optimizer, loss=loss)
    running = 0.0
    for _ in range(epochs):
        for batch in doctor(data):
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            optimizer.step()
            running = 0.9 * running + 0.1 * value.detach()


def by_steps(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """One stream of batches; gradients are cleared at the end of a step."""
    doctor = run.watch(model, optimizer, loss=loss)
    steps = epochs * len(data) if hasattr(data, "__len__") else 40 * epochs
    for batch in doctor(repeated(data, steps)):
        loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)


def by_clipping(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """Gradients are clipped where they are far too large."""
    doctor = run.watch(model, optimizer, loss=loss)
    for _ in range(epochs):
        for batch in doctor(data):
            model.zero_grad()
            loss(model, batch).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            optimizer.step()


def by_accumulating(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """Two batches make a step."""
    doctor = run.watch(model, optimizer, loss=loss)
    for _ in range(epochs):
        for number, batch in enumerate(doctor(data), 1):
            (loss(model, batch) / 2).backward()
            if number % 2 == 0:
                optimizer.step()
                optimizer.zero_grad()


def by_closure(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """The optimizer is handed a closure."""
    doctor = run.watch(model, optimizer, loss=loss)
    for _ in range(epochs):
        for batch in doctor(data):

            def closure(batch: Any = batch) -> Tensor:
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                return value

            optimizer.step(closure)


def by_averaging(run: Run, model: nn.Module, optimizer: Any, loss: Any, data: Any, epochs: int) -> None:
    """A mean of the weights is kept beside them, and only looked at."""
    doctor = run.watch(model, optimizer, loss=loss)
    shadow = copy.deepcopy(model).requires_grad_(False)
    for batch in doctor(repeated(data, epochs * len(data))):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        with torch.no_grad():
            for mean, each in zip(shadow.parameters(), model.parameters(), strict=True):
                mean.lerp_(each, 0.05)


MANNERS: dict[str, Callable[..., None]] = {
    "trainer": by_trainer, "epochs": by_epochs, "steps": by_steps, "clipped": by_clipping,
    "accumulating": by_accumulating, "closure": by_closure, "averaged": by_averaging,
}  # fmt: skip


def train(
    run: Run, model: nn.Module, optimizer: Any, loss: Any = None, data: Iterable[Any] | None = None, epochs: int = 0
) -> Measure:
    """Train as the world's people do; return the world's measure."""
    here = world(run)
    data = here.data() if data is None else data
    model.train()
    MANNERS[here.manner](run, model, optimizer, loss or here.loss, data, epochs or here.epochs)
    return lambda: here.measure(model)
