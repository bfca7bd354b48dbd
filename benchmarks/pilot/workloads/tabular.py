"""Regression on raw columns: nothing is standardised, targets have long tails."""

import torch
from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled, split, squared


def absolute(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean absolute error."""
    return nn.functional.l1_loss(model(batch[0]), batch[1])


def student(rows: int) -> Batch:
    """Return columns of units from .01 to 1000, and a smooth target with Student's noise of two degrees of freedom."""
    draw = generator(3)
    columns = torch.randn(rows, 12, generator=draw)
    target = 40 * torch.sin(columns[:, 0]) + 25 * columns[:, 1] * columns[:, 2] + 10 * columns[:, 3].abs() + 300
    normal = torch.randn(3, rows, generator=draw)
    noise = normal[0] / (normal[1:].square().mean(0)).sqrt()
    raw = columns * torch.logspace(-2, 3, 12) + torch.linspace(-3, 3, 12)
    return raw, (target + 5 * noise)[:, None]


def network(inputs: int) -> nn.Module:
    """Return a perceptron of two hidden layers."""
    return nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))


def workloads() -> list[Workload]:
    """Return two."""
    columns, target = load_diabetes(return_X_y=True, scaled=False)
    whole = (torch.tensor(columns, dtype=torch.float32), torch.tensor(target, dtype=torch.float32)[:, None])
    data, val = split(whole, 300)
    heavy, other = split(student(5000), 4000)
    return [
        Workload(
            "diabetes_raw", "tabular", seeded(lambda: network(10)), squared, shuffled(data, 20), val, 20, 4000,
        ),
        Workload(
            "student_raw", "tabular", seeded(lambda: network(12)), absolute, shuffled(heavy, 100), other, 100, 2500,
        ),
    ]  # fmt: skip
