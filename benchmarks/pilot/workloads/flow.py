"""A normalising flow on a ring of eight Gaussians.

The loss is a log likelihood and may be negative. Its floor is the entropy of the data, which is known because the
density is: the mean of its negative logarithm on the very rows that are validated on.
"""

import math

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded

SPREAD, ROWS = 0.2, 100
CENTRES = torch.stack([torch.arange(8).mul(math.pi / 4).cos(), torch.arange(8).mul(math.pi / 4).sin()], dim=1)


class Coupling(nn.Module):
    """An affine coupling: one coordinate stays, and says how the other is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved coordinate and the logarithm of its stretch."""
        stretch, shift = self.net(one).chunk(2, dim=1)
        stretch = stretch.tanh()
        return other * stretch.exp() + shift, stretch


class Flow(nn.Module):
    """Points (rows, 2) -> their log likelihood (rows,)."""

    def __init__(self) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling() for _ in range(6))

    def forward(self, points: Tensor) -> Tensor:
        """Change the variables, coordinate by coordinate."""
        (one, other), total = points.split(1, dim=1), torch.zeros(len(points), 1)
        for coupling in self.couplings:
            other, stretch = coupling(one, other)
            one, other, total = other, one, total + stretch
        return (total - (one.square() + other.square()) / 2)[:, 0] - math.log(2 * math.pi)


def points(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return fresh points."""
    centres = CENTRES[torch.randint(8, (rows,), generator=draw)]
    return (centres + SPREAD * torch.randn(rows, 2, generator=draw),)


def entropy(rows: Tensor) -> float:
    """Return the mean of -log p under the density that the points are from."""
    far = (rows[:, None] - CENTRES).square().sum(-1) / (2 * SPREAD**2)
    log_p = torch.logsumexp(-far, dim=1) - math.log(8 * 2 * math.pi * SPREAD**2)
    return -log_p.mean().item()


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative log likelihood."""
    return -model(batch[0]).mean()


def workloads() -> list[Workload]:
    """Return one."""
    val = points(torch.Generator().manual_seed(5), 4000)
    floor = entropy(val[0])
    return [Workload("flow_ring", "flow", seeded(Flow), loss, drawn(points), [val], ROWS, 1000, floor=floor)]
