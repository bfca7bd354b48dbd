"""Few samples, seen very often: what is lowest on the training set is not lowest on others."""

from torch import nn

from pilot.workloads.digits import digits, relabelled
from pilot.workloads.workload import Workload, cross_entropy, seeded, shuffled, split


def network() -> nn.Module:
    """Return a multi-layer perceptron far larger than its data."""
    return nn.Sequential(nn.Linear(64, 320), nn.ReLU(), nn.Linear(320, 320), nn.ReLU(), nn.Linear(320, 10))


def workloads() -> list[Workload]:
    """Return two: 300 samples 250 times, and 600 with a fifth of the labels wrong 85 times."""
    few, val = split(digits(), 300)
    more, other = split(digits(), 600)
    noisy = (more[0], relabelled(more[1], 0.2))
    build = seeded(network)
    return [
        Workload("overfit_few", "overfit", build, cross_entropy, shuffled(few, 30), val, 30, 2500),
        Workload("overfit_noisy", "overfit", build, cross_entropy, shuffled(noisy, 20), other, 20, 2500),
    ]
