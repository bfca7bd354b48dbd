"""The gradient that a step is about to use, held against what it should be: computed anew, of the same batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.history import Backward, Update
from steepest.doctor.twin import ask, copy_of

SAME = 1e-4
"""Losses and gradients that differ by a smaller part are the same; they differ by 1e-7 at the most where they are."""


@dataclass(frozen=True)
class Fresh:
    """What came of the comparison.

    told, own: losses that the loop used, and computed anew. factor: told over own, None where it is not the same for
    all. cosine, ratio: between the gradient used and the fresh one of the loss as told, and of their lengths. length:
    of the fresh gradient. lengths: of the gradient of each backward pass alone. left: length of what was there before
    the first backward pass. with_left: cosine between the gradient used and the fresh one with that added. bound: of
    each entry, if the one that is used is the fresh one with larger entries cut to it; infinite otherwise.
    """

    step: int
    told: list[float]
    own: list[float]
    factor: float | None
    cosine: float
    ratio: float
    length: float
    lengths: list[float]
    left: float = 0.0
    with_left: float = 0.0
    bound: float = math.inf

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
    """Compute the gradient of an update anew, at the weights as they are. parameters: that the optimizer holds.

    Backward passes that share a batch are taken for parts of its loss, if they add up to it or to a multiple of it.
    """
    twin = copy_of(model, modes)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = dict(twin.named_parameters())
    pairs = [(each, own[names[id(each)]]) for each in parameters if id(each) in names and each.requires_grad]
    total: list[Tensor] = [torch.zeros_like(each) for _, each in pairs]
    told, losses, lengths = [], [], []
    for backwards in _by_batch(update):
        value = ask(twin, loss, backwards[0].of)
        gradients = _gradients(value, [each for _, each in pairs])
        sums = sum(backward.value for backward in backwards) / len(backwards)
        told += [sums] * len(backwards)
        losses += [float(value.detach())] * len(backwards)
        factor = _factor(told[-1:], losses[-1:]) or 1.0
        found = [torch.zeros_like(a) if b is None else b for (_, a), b in zip(pairs, gradients, strict=True)]
        lengths += [_length(found) * abs(factor)] * len(backwards)
        total = [a + len(backwards) * factor * b for a, b in zip(total, found, strict=True)]
    used = [torch.zeros_like(each) if each.grad is None else each.grad.to_dense() for each, _ in pairs]
    left = [update.left.get(id(each), torch.zeros_like(each)) for each, _ in pairs]
    summed = [a + b for a, b in zip(total, left, strict=True)]
    length, other = _length(total), _length(used)
    ratio = other / length if length > 0 else 0.0
    return Fresh(
        update.step, told, losses, _factor(told, losses), _cosine(total, used), ratio, length, lengths,
        _length(left), _cosine(summed, used), _bound(total, used),
    )  # fmt: skip


def _by_batch(update: Update) -> list[list[Backward]]:
    """Return the backward passes of each batch."""
    found: dict[int, list[Backward]] = {}
    for backward in update.backwards:
        found.setdefault(id(backward.of), []).append(backward)
    return list(found.values())


def _gradients(value: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor | None]:
    """Return the gradient for each, None where none arrives."""
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return torch.autograd.grad(value, parameters, allow_unused=True)


def _factor(told: list[float], own: list[float]) -> float | None:
    """Return told / own, if it is the same for all."""
    factors = [a / b if b else (1.0 if a == b else float("nan")) for a, b in zip(told, own, strict=True)]
    if not factors or not all(abs(each - factors[0]) <= SAME * abs(factors[0]) for each in factors):
        return None
    return 1.0 if abs(factors[0] - 1) <= SAME else factors[0]


def _cosine(one: list[Tensor], other: list[Tensor]) -> float:
    """Return the cosine of the angle between two, 0 where one has no length."""
    lengths = _length(one) * _length(other)
    dot = sum(float((a.double() * b.double()).sum()) for a, b in zip(one, other, strict=True))
    return dot / lengths if lengths > 0 else 0.0


def _bound(fresh: list[Tensor], used: list[Tensor]) -> float:
    """Return the greatest entry of what is used, if it is what is fresh, clamped to it."""
    most = max((float(each.abs().max()) for each in used if each.numel()), default=0.0)
    larger = any(bool((each.abs() > most * (1 + SAME)).any()) for each in fresh)
    if not larger or not 0 < most < math.inf:
        return math.inf
    near = all(
        torch.allclose(a.clamp(-most, most), b, rtol=SAME, atol=SAME * most) for a, b in zip(fresh, used, strict=True)
    )
    return most if near else math.inf


def _length(values: list[Tensor]) -> float:
    """Return the length of all together, in double precision: in single it could be infinite."""
    return sum(float(each.double().square().sum()) for each in values) ** 0.5
