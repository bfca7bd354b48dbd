"""An autoencoder of digits with a narrow waist."""

from itertools import pairwise

from torch import Tensor, nn

from pilot.workloads.digits import digits
from pilot.workloads.workload import Batch, Workload, seeded, shuffled, split


def network() -> nn.Module:
    """Return 64 - 8 - 64 with three hidden layers on each side."""
    sizes = (64, 128, 64, 32, 8, 32, 64, 128, 64)
    layers = [(nn.Linear(*pair), nn.GELU()) for pair in pairwise(sizes)]
    flat = [layer for pair in layers for layer in pair]
    del flat[7], flat[-1]
    return nn.Sequential(*flat)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the squared error of the pictures."""
    return nn.functional.mse_loss(model(batch[0]), batch[0])


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(digits()[:1], 1200)
    batches = shuffled(data, 48)
    return [Workload("autoencoder_digits", "autoencoder", seeded(network), loss, batches, val, 48, 2000)]
