"""Loops that programs share where their fault is not in the loop. Two manners: by epochs, and one stream of steps."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from faults.case import Loss, Measure, Run
from faults.families.batches import endless

STREAMS = ("autoencoder", "flow", "gpt", "recommender")
"""Families whose loops count steps; the others count epochs."""


def fit(
    run: Run, model: nn.Module, optimizer: Any, loss: Loss | None = None, train: Any = None, epochs: int = 0
) -> Measure:
    """Train in the plainest way, with what the family offers where nothing else is given; return its measure."""
    loss, train, epochs = loss or run.task.loss, train or run.task.train(), epochs or run.task.epochs
    model.train()
    doctor = run.watch(model, optimizer, loss=loss)
    if run.case.family in STREAMS:
        for batch in doctor(endless(train, epochs * length(train))):
            loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    else:
        for _ in range(epochs):
            for batch in doctor(train):
                optimizer.zero_grad()
                value = loss(model, batch)
                value.backward()
                optimizer.step()
    return lambda: run.task.measure(model)


def scheduled(run: Run, model: nn.Module, optimizer: Any, scheduler: Any, epochs: int = 0) -> Measure:
    """Train with a scheduler that is called after every batch."""
    loss, train = run.task.loss, run.task.train()
    doctor = run.watch(model, optimizer, loss=loss, scheduler=scheduler)
    for _ in range(epochs or run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
            scheduler.step()
    return lambda: run.task.measure(model)


def clipped(run: Run, model: nn.Module, optimizer: Any, clip: Callable[[], Any], loss: Loss | None = None) -> Measure:
    """Train, calling clip between backward and step."""
    loss, train = loss or run.task.loss, run.task.train()
    doctor = run.watch(model, optimizer, loss=loss)
    for _ in range(run.task.epochs):
        for batch in doctor(train):
            optimizer.zero_grad()
            loss(model, batch).backward()
            clip()
            optimizer.step()
    return lambda: run.task.measure(model)


def stepped(run: Run, model: nn.Module, optimizer: Any, before: Callable[[int], Any], steps: int = 0) -> Measure:
    """Train, calling before(step) as each step begins."""
    loss, train = run.task.loss, run.task.train()
    steps = steps or run.task.epochs * length(train)
    doctor = run.watch(model, optimizer, loss=loss)
    for step, batch in enumerate(doctor(endless(train, steps))):
        before(step)
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
    return lambda: run.task.measure(model)


def length(train: Iterable[Any]) -> int:
    """Return how many batches an epoch has, counted where it has no length; torch's random state stays."""
    if hasattr(train, "__len__"):
        return len(train)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        return sum(1 for _ in train)
