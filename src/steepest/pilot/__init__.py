"""Decides for the user how to train: so far one fixed choice for every model."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from steepest.loop import Factor
from steepest.record import Plan


@dataclass(frozen=True)
class Choice:
    """What to train with, and the plan that explains it. schedule: None when the optimizer holds its own."""

    optimizer: Optimizer
    schedule: Factor | None
    plan: Plan
