"""Classes from raw columns, few rows of one class."""

import torch
from sklearn.datasets import load_breast_cancer, load_wine
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, cross_entropy, seeded, shuffled, split


def rare(data: Batch, kind: int, rows: int) -> Batch:
    """Return the data with the first rows of that class only."""
    of_kind = data[1] == kind
    kept = ~of_kind | (of_kind.cumsum(0) <= rows)
    return tuple(column[kept] for column in data)


def tensors(data: tuple) -> Batch:
    """Return the arrays of scikit-learn as tensors."""
    return torch.tensor(data[0], dtype=torch.float32), torch.tensor(data[1])


def weighted(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy with the rare class four times as heavy."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1], weight=torch.tensor([4.0, 1.0]))


def workloads() -> list[Workload]:
    """Return two: malignant 1 in 9, by a perceptron; three wines, in full batch, by a smaller one."""
    cancer, val = split(rare(tensors(load_breast_cancer(return_X_y=True)), 0, 45), 250)
    wine, other = split(rare(tensors(load_wine(return_X_y=True)), 2, 20), 90)
    large = seeded(
        lambda: nn.Sequential(nn.Linear(30, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 2))
    )
    small = seeded(lambda: nn.Sequential(nn.Linear(13, 64), nn.Tanh(), nn.Linear(64, 3)))
    return [
        Workload("cancer_raw", "columns", large, weighted, shuffled(cancer, 25), val, 25, 3000),
        Workload("wine_raw", "columns", small, cross_entropy, shuffled(wine, 90), other, 90, 3000),
    ]
