"""The same digits as pictures, and a convolutional network with batch norm."""

import torch
from torch import Tensor, nn

from faults.families import digits
from faults.families.batches import loader
from faults.families.scores import cross_entropy, error_rate
from faults.families.task import Task


def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pictures (rows, 1, 8, 8) and classes, to train on and to test on."""
    x, y, u, v = digits.data()
    return x.view(-1, 1, 8, 8), y, u.view(-1, 1, 8, 8), v


class Net(nn.Module):
    """Two convolutions, each with batch norm, a pool over the picture, a linear head."""

    def __init__(self, wide: int = 12, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, wide, 3, padding=1), nn.Conv2d(wide, 2 * wide, 3, padding=1)
        self.norm1, self.norm2 = norm(wide), norm(2 * wide)
        self.head = nn.Linear(2 * wide * 4, 10)

    def features(self, x: Tensor) -> Tensor:
        """Pictures -> a vector for each."""
        x = nn.functional.max_pool2d(torch.relu(self.norm1(self.first(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.norm2(self.second(x))), 2)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures -> logits."""
        return self.head(self.features(x))


def error(model: nn.Module) -> float:
    """Return the error rate on the test pictures."""
    return error_rate(model, *data()[2:])


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.03, "Adam": 0.005, "AdamW": 0.005, "RMSprop": 0.002, "Adagrad": 0.02}
    return Task(Net, cross_entropy, lambda: loader(*data()[:2], size=32), error, rates, 3)
