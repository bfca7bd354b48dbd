"""Contrastive learning: two noisy, shifted views of a digit find each other among the batch's others (InfoNCE)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pilot.workloads.digits import digits
from pilot.workloads.workload import Batch, Workload, seeded, shuffled, split

TEMPERATURE = 0.1


def view(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """Return the pictures shifted by at most one pixel, all alike, with noise and dropped pixels of their own."""
    across, down = torch.randint(-1, 2, (2,), generator=draw).tolist()
    shifted = pictures.unflatten(1, (8, 8)).roll((across, down), (1, 2)).flatten(1)
    seen = torch.rand(shifted.shape, generator=draw) > 0.2
    return seen * (shifted + 0.1 * torch.randn(shifted.shape, generator=draw))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean of both directions' cross-entropy."""
    one, other = (nn.functional.normalize(model(each), dim=1) for each in batch)
    likeness = one @ other.T / TEMPERATURE
    own = torch.arange(len(likeness))
    return (nn.functional.cross_entropy(likeness, own) + nn.functional.cross_entropy(likeness.T, own)) / 2


def network() -> nn.Module:
    """Return an encoder with a projection."""
    return nn.Sequential(nn.Linear(64, 192), nn.ReLU(), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 32))


def workloads() -> list[Workload]:
    """Return one."""
    data, ((others, _),) = split(digits(), 1200)

    def batches(seed: int) -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(seed)
        for (pictures,) in shuffled(data[:1], 64)(seed):
            yield view(pictures, draw), view(pictures, draw)

    draw = torch.Generator().manual_seed(5)
    val = [(view(some, draw), view(some, draw)) for some in others[:576].split(64)]
    return [Workload("contrastive_digits", "contrastive", seeded(network), loss, batches, val, 64, 1400)]
