"""Handwritten digits of 8 by 8 pixels and a perceptron."""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from faults.families.batches import Shuffled, drawn
from faults.families.scores import cross_entropy, error_rate
from faults.families.task import Task


@cache
def data(training: int = 1000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pixels from -1 to 1 and classes: so many rows to train on, the others to test on."""
    found = load_digits()
    pixels = torch.tensor(found.data, dtype=torch.float32) / 8 - 1
    classes = torch.tensor(found.target)
    order = torch.randperm(len(pixels), generator=drawn(1))
    one, other = order[:training], order[training:]
    return pixels[one], classes[one], pixels[other], classes[other]


def mlp(wide: int = 48, classes: int = 10) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    return nn.Sequential(
        nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, classes)
    )  # fmt: skip


def error(model: nn.Module) -> float:
    """Return the error rate on the test rows."""
    return error_rate(model, *data()[2:])


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.05, "Adam": 0.005, "AdamW": 0.005, "RMSprop": 0.002, "Adagrad": 0.03}
    return Task(mlp, cross_entropy, lambda: Shuffled(*data()[:2], size=32), error, rates, 4)
