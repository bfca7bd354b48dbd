"""Measured columns of tumours, benign or malignant: one logit, from standardised columns."""

from functools import cache

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families.batches import Shuffled, drawn
from faults.families.task import Task


@cache
def raw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return columns as measured and targets (rows,) of 0 and 1: 380 rows to train on, 189 to test on."""
    found = load_breast_cancer()
    columns, targets = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target, dtype=torch.float32)
    order = torch.randperm(len(columns), generator=drawn(14))
    one, other = order[:380], order[380:]
    return columns[one], targets[one], columns[other], targets[other]


@cache
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the same with columns standardised."""
    x, y, u, v = raw()
    return (x - x.mean(0)) / x.std(0), y, (u - x.mean(0)) / x.std(0), v


class Net(nn.Module):
    """One hidden layer, one logit for each row."""

    def __init__(self, wide: int = 16) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(30, wide), nn.Linear(wide, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Columns (rows, 30) -> logits (rows,)."""
        return self.out(torch.tanh(self.hidden(x))).squeeze(-1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the binary cross-entropy of logits."""
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


@torch.no_grad()
def test_loss(model: nn.Module) -> float:
    """Return the binary cross-entropy on the test rows."""
    model.eval()
    return loss(model, data()[2:]).item()


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.05, "Adam": 0.01, "AdamW": 0.01, "RMSprop": 0.005, "Adagrad": 0.05}
    return Task(Net, loss, lambda: Shuffled(*data()[:2], size=19), test_loss, rates, 5)
