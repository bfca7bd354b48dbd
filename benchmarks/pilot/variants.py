"""Workloads made harder, shorter or longer: `gpt_stdlib@steps=240@loss=1e4` is one with two changes.

What is changed is what a contender sees; validation is on the data and by the loss that the workload has.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pilot.workloads.deep import perceptron
from pilot.workloads.workload import Batch, Workload, generator, seeded


def varied(workload: Workload, changes: str) -> Workload:
    """Return the workload with the changes, "steps=240@loss=1e4", made to it. Raises ValueError for an unknown one."""
    for change in filter(None, changes.split("@")):
        name, _, value = change.partition("=")
        if name not in CHANGES:
            raise ValueError(f"No change is called {name!r}; there are {', '.join(CHANGES)}.")
        workload = CHANGES[name](workload, float(value))
    return workload


def steps(workload: Workload, number: float) -> Workload:
    """Give it so many steps."""
    return replace(workload, steps=round(number))


def loss(workload: Workload, factor: float) -> Workload:
    """Multiply the loss of training."""
    plain = workload.loss
    return replace(workload, loss=lambda model, batch: factor * plain(model, batch), score=workload.score or plain)


def start(workload: Workload, factor: float) -> Workload:
    """Multiply all trained parameters at the beginning."""

    def build(seed: int) -> nn.Module:
        model = workload.build(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.mul_(factor)
        return model

    return replace(workload, build=build)


def batch(workload: Workload, divisor: float) -> Workload:
    """Divide the size of the batches, down to one row."""
    rows = max(1, round(workload.batch_size / divisor))

    def batches(seed: int) -> Iterator[Batch]:
        for whole in workload.batches(seed):
            yield _first(whole, rows)

    return replace(workload, batches=batches, batch_size=rows)


def _first(part: Any, rows: int) -> Any:
    return part[:rows] if isinstance(part, Tensor) else tuple(_first(each, rows) for each in part)


def nan(workload: Workload, period: float) -> Workload:
    """Make every so many-th loss that has a gradient NaN."""
    plain, asked = workload.loss, 0

    def broken(model: nn.Module, batch: Batch) -> Tensor:
        nonlocal asked
        asked += torch.is_grad_enabled()
        bad = torch.is_grad_enabled() and asked % period == 0
        return plain(model, batch) * (math.nan if bad else 1.0)

    return replace(workload, loss=broken, score=workload.score or plain)


def labels(workload: Workload, share: float) -> Workload:
    """Give that share of the rows the targets of other rows of their batch; targets are what stands last in it."""

    def batches(seed: int) -> Iterator[Batch]:
        draw = generator(1000 + seed)
        for *inputs, targets in workload.batches(seed):
            wrong = torch.rand(len(targets), generator=draw) < share
            others = targets[torch.randperm(len(targets), generator=draw)]
            yield (*inputs, torch.where(wrong.view(-1, *[1] * (targets.ndim - 1)), others, targets))

    return replace(workload, batches=batches)


def layers(workload: Workload, number: float) -> Workload:
    """Build the perceptron without normalisation in so many layers."""
    if workload.name != "tanh12":
        raise ValueError(f"Only tanh12 can be built in another number of layers; received {workload.name}.")
    return replace(workload, build=seeded(partial(perceptron, round(number))))


CHANGES: dict[str, Callable[[Workload, float], Workload]] = {
    "steps": steps, "loss": loss, "start": start, "batch": batch, "nan": nan, "labels": labels, "layers": layers,
}  # fmt: skip
