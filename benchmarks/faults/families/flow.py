"""The density of points on two moons, by a flow of coupling layers; its loss is a likelihood and may be negative."""

from functools import cache

import torch
from torch import Tensor, nn

from faults.families.batches import drawn
from faults.families.scores import mean_loss
from faults.families.task import Task


@cache
def data(rows: int = 2048, seed: int = 15) -> Tensor:
    """Return points (rows, 2) on two noisy half circles, shrunk so that densities are above 1."""
    draw = drawn(seed)
    angle = torch.pi * torch.rand(rows, generator=draw)
    upper = torch.rand(rows, generator=draw) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    return 0.4 * (torch.stack([x, y], dim=1) + 0.06 * torch.randn(rows, 2, generator=draw))


class Coupling(nn.Module):
    """One coordinate is scaled and shifted by what a small net says of the other."""

    def __init__(self, kept: int, wide: int = 32) -> None:
        super().__init__()
        self.kept = kept
        self.net = nn.Sequential(nn.Linear(1, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Points -> points and the log of how much the map stretches."""
        kept, moved = x[:, self.kept], x[:, 1 - self.kept]
        scale, shift = self.net(kept.unsqueeze(1)).unbind(1)
        scale = 2 * torch.tanh(scale / 2)
        moved = moved * scale.exp() + shift
        pair = (kept, moved) if self.kept == 0 else (moved, kept)
        return torch.stack(pair, dim=1), scale


class Flow(nn.Module):
    """Couplings of alternating coordinates."""

    def __init__(self, layers: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(index % 2) for index in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the log density of each point."""
        stretched = torch.zeros(len(x))
        for layer in self.layers:
            x, more = layer(x)
            stretched = stretched + more
        return stretched - 0.5 * x.square().sum(1) - torch.log(torch.tensor(2 * torch.pi))


def likelihood(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the negative mean log density."""
    return -model(batch).mean()


class Points:
    """Batches that are plain tensors, in a new order each time."""

    def __init__(self, points: Tensor, size: int = 64) -> None:
        self.points, self.size = points, size

    def __iter__(self):  # noqa: ANN204
        return iter(self.points[torch.randperm(len(self.points))].split(self.size))


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.005, "Adam": 0.005, "AdamW": 0.005, "RMSprop": 0.001, "Adagrad": 0.02}
    return Task(
        Flow, likelihood, lambda: Points(data()), lambda model: mean_loss(model, likelihood, data(1000, 16)), rates, 5
    )
