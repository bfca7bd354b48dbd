"""What is compared: optimizers at a given rate, and `steepest.fit`.

A contender's name says all of it: `adamw_0.01`, `muon_0.01`, `sgd_0.1`, `steepest`, or `steepest[DECAY=0.1,RATE=0.02]`
with constants of `steepest.pilot.measure` replaced, which the environment variable `PILOT` does.
"""

import importlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pilot.workloads.workload import Batch, Loss

WARM_UP = 0.05
DECAY = 0.01


@dataclass(frozen=True)
class Job:
    """What a contender may know: no validation data, and no name to look a rate up by."""

    model: nn.Module
    loss: Loss
    batches: Iterator[Batch]
    steps: int
    seed: int


def full_name(name: str) -> str:
    """Return the name with what PILOT replaces, so that results of one name are of one contender."""
    given = os.environ.get("PILOT", "").replace(" ", "")
    return f"{name}[{given}]" if name == "steepest" and given else name


def train(name: str, job: Job) -> nn.Module:
    """Train by the contender of that name; return the model. Raises ValueError when there is none."""
    kind, _, rate = name.partition("_")
    if name.partition("[")[0] == "steepest":
        return _steepest(job, name[len("steepest") :].strip("[]"))
    if kind not in KINDS:
        raise ValueError(f"No contender is called {name!r}; there are steepest and {', '.join(KINDS)}, as adamw_0.01.")
    make, shape = KINDS[kind]
    return _by_hand(job, make(job.model, float(rate)), shape)


def _adamw(model: nn.Module, rate: float) -> list[Optimizer]:
    trained = [each for each in model.parameters() if each.requires_grad]
    return [torch.optim.AdamW(trained, lr=rate, betas=(0.9, 0.999), weight_decay=DECAY, fused=True)]


def _sgd(model: nn.Module, rate: float) -> list[Optimizer]:
    return [torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=rate, momentum=0.9)]


def _muon(model: nn.Module, rate: float) -> list[Optimizer]:
    """Muon on hidden matrices: of linear layers, neither the first of the model nor the last; AdamW on the rest."""
    hidden = _hidden(model)
    rest = [each for each in model.parameters() if each.requires_grad and not any(each is one for one in hidden)]
    muon = torch.optim.Muon(hidden, lr=rate, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw") if hidden else None
    adamw = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.999), weight_decay=DECAY, fused=True) if rest else None
    return [each for each in (muon, adamw) if each is not None]


def _hidden(model: nn.Module) -> list[nn.Parameter]:
    layers = (nn.Linear, nn.RNNBase, nn.modules.conv._ConvNd)
    owners = [module for module in model.modules() if isinstance(module, (*layers, nn.Embedding))]
    last = next((each for each in reversed(owners) if isinstance(each, nn.Linear)), None)
    ends = [last] if owners and isinstance(owners[0], nn.Embedding) else [last, *owners[:1]]
    return [
        weight
        for module in owners
        if isinstance(module, layers) and not any(module is end for end in ends)
        for weight in module.parameters(recurse=False)
        if weight.ndim == 2 and weight.requires_grad
    ]


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def _linear(done: float) -> float:
    return 1 - done


KINDS: dict[str, tuple[Callable[[nn.Module, float], list[Optimizer]], Callable[[float], float]]] = {
    "adamw": (_adamw, _cosine),
    "muon": (_muon, _linear),
    "sgd": (_sgd, _cosine),
}
"""Name -> how to make the optimizers for a rate, and how the rate falls after the warm-up."""


def _by_hand(job: Job, optimizers: list[Optimizer], shape: Callable[[float], float]) -> nn.Module:
    """Train in the loop that everyone writes; stop where the loss is not finite, for it will not come back."""
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    warm = max(1, round(WARM_UP * job.steps))
    job.model.train()
    for step, batch in zip(range(job.steps), job.batches, strict=False):
        factor = (step + 1) / warm if step < warm else shape((step - warm) / max(1, job.steps - warm))
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        loss = job.loss(job.model, batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 0 and not torch.isfinite(loss):
            break
    return job.model


def _steepest(job: Job, replaced: str) -> nn.Module:
    import steepest as st

    module: Any = importlib.import_module("steepest.pilot.measure")
    before = dict(vars(module))
    try:
        for name, value in (each.split("=", 1) for each in filter(None, replaced.split(","))):
            if name not in before or not name.isupper():
                raise ValueError(f"PILOT replaces constants of steepest.pilot.measure, and {name!r} is none of them.")
            setattr(module, name, value if isinstance(before[name], str) else float(value))
        return st.fit(job.model, job.loss, job.batches, steps=job.steps, seed=job.seed, log=False).model
    finally:
        vars(module).update(before)
