"""A residual network of 40 narrow layers, gated and without norms, that foretells quantiles of electric load."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled, split

WIDE = 20
LEVELS = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])


class Gated(nn.Module):
    """A layer whose output is let in by a gate that is shut at first (ReZero)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.gate = nn.Linear(WIDE, WIDE), nn.Parameter(torch.zeros(1))

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream with something added."""
        return stream + self.gate * self.linear(stream).relu()


def network() -> nn.Module:
    """Return 40 layers between two linear ones."""
    return nn.Sequential(nn.Linear(7, WIDE), *(Gated() for _ in range(40)), nn.Linear(WIDE, len(LEVELS)))


def load(rows: int) -> Batch:
    """Return hour, season, temperature and such, and the load in standard units, more uncertain when it is cold."""
    draw = generator(12)
    hour, day, noise, cold = torch.rand(4, rows, generator=draw)
    free = (torch.rand(rows, generator=draw) < 2 / 7).float()
    year, clock = 2 * torch.pi * day, 2 * torch.pi * hour
    temperature = -year.cos() + 0.5 * (clock - 2.5).sin() + cold - 0.5
    heating, people = (-temperature).relu(), (1 - 0.5 * free) * (-(clock.cos()) + 0.6 * (2 * clock - 1).sin())
    skewed = -(1 - 0.99 * noise).log() - 1
    target = people + 0.8 * heating + 0.3 * temperature.relu() * (hour > 0.5) + (0.1 + 0.3 * heating) * skewed
    columns = [clock.sin(), clock.cos(), year.sin(), year.cos(), free, temperature, torch.randn(rows, generator=draw)]
    return torch.stack(columns, dim=1), target[:, None]


def quantiles(model: nn.Module, batch: Batch) -> Tensor:
    """Return the pinball loss of five quantiles."""
    above = batch[1] - model(batch[0])
    return torch.maximum(LEVELS * above, (LEVELS - 1) * above).mean()


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(load(8000), 6000)
    return [Workload("rezero40_load", "rezero", seeded(network), quantiles, shuffled(data, 40), val, 40, 600)]
