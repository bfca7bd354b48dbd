"""A made-up table: ten columns of different meaning, and a number that depends on some of them, not linearly."""

from functools import cache

import torch
from torch import Tensor, nn

from faults.families.batches import drawn, loader
from faults.families.scores import squared
from faults.families.task import Task

COLUMNS = 10


@cache
def data(rows: int = 960, seed: int = 12) -> tuple[Tensor, Tensor]:
    """Return standardised columns (rows, 10) and the target (rows, 1)."""
    draw = drawn(seed)
    x = torch.randn(rows, COLUMNS, generator=draw)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.7 * x[:, 3].abs() + 0.5 * x[:, 4] - 0.5
    return x, (y + 0.2 * torch.randn(rows, generator=draw)).unsqueeze(1) / 1.5


def mlp(wide: int = 48) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    return nn.Sequential(nn.Linear(COLUMNS, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 1))


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the mean squared error on new rows."""
    model.eval()
    return squared(model, data(800, 13)).item()


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.02, "Adam": 0.01, "AdamW": 0.01, "RMSprop": 0.005, "Adagrad": 0.05}
    return Task(mlp, squared, lambda: loader(*data(), size=32), error, rates, 6)
