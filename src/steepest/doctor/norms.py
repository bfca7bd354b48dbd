"""Batch norm in training and in evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from steepest.doctor.history import Pass
from steepest.doctor.lab import Lab

Norm: Any = nn.modules.batchnorm._BatchNorm


def norms(model: nn.Module) -> list[Any]:
    """Return the batch norms of a model that keep statistics."""
    return [each for each in model.modules() if isinstance(each, Norm) and each.track_running_stats]


@dataclass(frozen=True)
class Gap:
    """Loss of batches in training mode, with the statistics as they are, and with statistics estimated of them."""

    training: float
    evaluating: float
    estimated: float


def gap(lab: Lab, passes: Sequence[Pass]) -> Gap | None:
    """Return what the statistics of batch norm do to the loss; all other modules stay in training mode."""
    model = lab.twin()
    for each in norms(model):
        each.train()
    training = _mean(lab, model, passes)
    model = lab.twin()
    for each in norms(model):
        each.eval()
    evaluating = _mean(lab, model, passes)
    for each in norms(model):
        each.train()
        each.reset_running_stats()
        each.momentum = None
    with torch.no_grad():
        _mean(lab, model, passes)
    for each in norms(model):
        each.eval()
    return Gap(training, evaluating, _mean(lab, model, passes))


def _mean(lab: Lab, model: nn.Module, passes: Sequence[Pass]) -> float:
    with torch.enable_grad():
        return sum(float(lab.ask(model, of).detach()) for of in passes) / len(passes)
