"""The gradient that a step is about to use, held against what it should be: computed anew, of the same batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.history import Update
from steepest.doctor.twin import ask, copy_of

SAME = 1e-4
"""Losses and gradients that differ by a smaller part are the same; they differ by 1e-7 at the most where they are."""


@dataclass(frozen=True)
class Fresh:
    """What came of the comparison.

    told, own: losses that the loop used, and computed anew. factor: told over own, None where it is not the same for
    all. cosine, ratio: between the gradient used and the fresh one of the loss as told, and of their lengths. length:
    of the fresh gradient. lengths: of the gradient of each backward pass alone.
    """

    step: int
    told: list[float]
    own: list[float]
    factor: float | None
    cosine: float
    ratio: float
    length: float
    lengths: list[float]

    @property
    def same_loss(self) -> bool:
        """Whether loss= is what the loop uses, but for a factor."""
        return self.factor is not None

    @property
    def faithful(self) -> bool:
        """Whether the step uses the gradient that it should, but for its length."""
        return self.same_loss and self.cosine > 1 - SAME


def compare(
    model: nn.Module, parameters: Sequence[nn.Parameter], loss: Any, update: Update, modes: Sequence[bool]
) -> Fresh:
    """Compute the gradient of an update anew, at the weights as they are. parameters: that the optimizer holds."""
    twin = copy_of(model, modes)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = dict(twin.named_parameters())
    pairs = [(each, own[names[id(each)]]) for each in parameters if id(each) in names]
    total: list[Tensor] = [torch.zeros_like(each) for _, each in pairs]
    told, losses, lengths = [], [], []
    for backward in update.backwards:
        value = ask(twin, loss, backward.of)
        gradients = torch.autograd.grad(value, [each for _, each in pairs], allow_unused=True)
        told.append(backward.value)
        losses.append(float(value.detach()))
        factor = _factor(told[-1:], losses[-1:])
        found = [torch.zeros_like(a) if b is None else b for (_, a), b in zip(pairs, gradients, strict=True)]
        lengths.append(_length(found) * abs(factor or 1.0))
        total = [a + (factor or 1.0) * b for a, b in zip(total, found, strict=True)]
    used = [torch.zeros_like(each) if each.grad is None else each.grad.to_dense() for each, _ in pairs]
    length, other = _length(total), _length(used)
    dot = sum(float((a.double() * b.double()).sum()) for a, b in zip(total, used, strict=True))
    cosine = dot / (length * other) if length > 0 and other > 0 else 0.0
    ratio = other / length if length > 0 else 0.0
    return Fresh(update.step, told, losses, _factor(told, losses), cosine, ratio, length, lengths)


def _factor(told: list[float], own: list[float]) -> float | None:
    """Return told / own, if it is the same for all."""
    factors = [a / b if b else (1.0 if a == b else float("nan")) for a, b in zip(told, own, strict=True)]
    if not factors or not all(abs(each - factors[0]) <= SAME * abs(factors[0]) for each in factors):
        return None
    return 1.0 if abs(factors[0] - 1) <= SAME else factors[0]


def _length(values: list[Tensor]) -> float:
    """Return the length of all together, in double precision: in single it could be infinite."""
    return sum(float(each.double().square().sum()) for each in values) ** 0.5
