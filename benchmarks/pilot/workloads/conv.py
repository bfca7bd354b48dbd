"""Convolutions without normalisation on digits: plain, and in batches of 8 with a tenth of the labels wrong."""

from torch import nn

from pilot.workloads.digits import digits, relabelled
from pilot.workloads.workload import Workload, cross_entropy, seeded, shuffled, split


def network() -> nn.Module:
    """Return four layers of weights."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def workloads() -> list[Workload]:
    """Return two."""
    data, val = split(digits(), 1200)
    noisy = (data[0], relabelled(data[1], 0.1))
    return [
        Workload(
            "conv_digits", "conv", seeded(network), cross_entropy, shuffled(data, 64), val, 64, 500
        ),
        Workload(
            "conv_small_batch", "conv", seeded(network), cross_entropy, shuffled(noisy, 8), val, 8, 1500
        ),
    ]  # fmt: skip
