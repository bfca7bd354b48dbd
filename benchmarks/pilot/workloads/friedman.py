"""Over-fitting: 120 noisy samples of Friedman's function, a wide perceptron with dropout, 750 epochs."""

import torch
from sklearn.datasets import make_friedman1
from torch import nn

from pilot.workloads.workload import Batch, Workload, seeded, shuffled, split, squared


def network() -> nn.Module:
    """Return a perceptron far larger than its data."""
    return nn.Sequential(
        nn.Linear(10, 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(256, 1),
    )  # fmt: skip


def samples(rows: int) -> Batch:
    """Return ten columns, half of which say nothing, and targets in about standard units."""
    columns, target = make_friedman1(rows, noise=2.0, random_state=22)
    return torch.tensor(columns, dtype=torch.float32), torch.tensor((target[:, None] - 14) / 5, dtype=torch.float32)


def workloads() -> list[Workload]:
    """Return one."""
    few, val = split(samples(2120), 120)
    return [Workload("friedman_dropout", "friedman", seeded(network), squared, shuffled(few, 30), val, 30, 3000)]
