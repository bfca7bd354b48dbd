"""The loop that everyone writes, and the optimizers whose rates are swept."""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from pilot.job import Job

WARM_UP = 0.05
DECAY = 0.01

Factor = Callable[[int, int], float]
"""(step, steps) -> what the rate is multiplied by."""


def loop(job: Job, optimizers: list[Optimizer], factor: Factor, steps: int) -> nn.Module:
    """Train for so many steps; stop where the loss is not finite, for it will not come back."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    job.model.train()
    for step, batch in zip(range(steps), job.batches, strict=False):
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor(step, steps)
        loss = job.loss(job.model, batch)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 0 and not torch.isfinite(loss):
            break
    return job.model


def constant(step: int, steps: int) -> float:
    """Return 1."""
    return 1.0


def after_warm_up(shape: Callable[[float], float]) -> Factor:
    """Return a factor that rises in a line, then falls as the shape does, a function of the part that is done."""

    def factor(step: int, steps: int) -> float:
        warm = max(1, round(WARM_UP * steps))
        return (step + 1) / warm if step < warm else shape((step - warm) / max(1, steps - warm))

    return factor


def cosine(done: float) -> float:
    """Return half a period, from 1 to 0."""
    return (1 + math.cos(math.pi * done)) / 2


def linear(done: float) -> float:
    """Return a line, from 1 to 0."""
    return 1 - done


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are."""
    return [each for each in model.parameters() if each.requires_grad]


def adamw(model: nn.Module, rate: float) -> list[Optimizer]:
    """Return torch's AdamW, fused."""
    return [torch.optim.AdamW(trained(model), lr=rate, betas=(0.9, 0.999), weight_decay=DECAY, fused=True)]


def sgd(model: nn.Module, rate: float) -> list[Optimizer]:
    """Return torch's SGD with momentum."""
    return [torch.optim.SGD(trained(model), lr=rate, momentum=0.9)]


def muon(model: nn.Module, rate: float) -> list[Optimizer]:
    """Muon on hidden matrices: of linear layers, neither the first of the model nor the last; AdamW on the rest."""
    hidden = _hidden(model)
    rest = [each for each in trained(model) if not any(each is one for one in hidden)]
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
