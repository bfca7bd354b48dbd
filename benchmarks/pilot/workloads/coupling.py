"""A normalising flow in six dimensions on a finite sample; its floor is the entropy, for the density is known."""

import math

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled, split

SPREAD, HALF = 0.4, 3


class Coupling(nn.Module):
    """An affine coupling: half of the coordinates stay, and say how the others are moved."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(HALF, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2 * HALF))

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved coordinates and the logarithms of their stretches."""
        stretch, shift = self.net(one).chunk(2, dim=1)
        stretch = 2 * (stretch / 2).tanh()
        return other * stretch.exp() + shift, stretch


class Flow(nn.Module):
    """Points (rows, 6) -> their log likelihood (rows,)."""

    def __init__(self) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling() for _ in range(6))
        for place in range(6):
            self.register_buffer(f"order{place}", torch.randperm(2 * HALF))

    def forward(self, points: Tensor) -> Tensor:
        """Change the variables, half by half, in a random order before each."""
        total = torch.zeros(len(points))
        for place, coupling in enumerate(self.couplings):
            one, other = points[:, self.get_buffer(f"order{place}")].chunk(2, dim=1)
            other, stretch = coupling(one, other)
            points, total = torch.cat([one, other], dim=1), total + stretch.sum(1)
        return total - points.square().sum(1) / 2 - HALF * math.log(2 * math.pi)


def middle(before: Tensor) -> Tensor:
    """Return the mean of a coordinate given the one before."""
    return (2 * before).sin() + before.square() / 4 - 0.5


def points(rows: int) -> Batch:
    """Return points whose first coordinate has two humps, and each other hangs on the one before."""
    draw = generator(13)
    sides = torch.randint(2, (rows,), generator=draw) * 2.0 - 1
    values = [1.5 * sides + SPREAD * torch.randn(rows, generator=draw)]
    for _ in range(2 * HALF - 1):
        values.append(middle(values[-1]) + SPREAD * torch.randn(rows, generator=draw))
    return (torch.stack(values, dim=1),)


def entropy(rows: Tensor) -> float:
    """Return the mean of -log p under the density that the points are from."""
    humps = -(rows[:, :1] - torch.tensor([-1.5, 1.5])).square() / (2 * SPREAD**2)
    chain = (rows[:, 1:] - middle(rows[:, :-1])).square().sum(1) / (2 * SPREAD**2)
    log_p = humps.logsumexp(dim=1) - math.log(2) - chain - 2 * HALF * math.log(SPREAD * (2 * math.pi) ** 0.5)
    return -log_p.mean().item()


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative log likelihood."""
    return -model(batch[0]).mean()


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(points(10000), 6000)
    floor = entropy(val[0][0])
    return [Workload("flow_chain", "coupling", seeded(Flow), loss, shuffled(data, 100), val, 100, 900, floor=floor)]
