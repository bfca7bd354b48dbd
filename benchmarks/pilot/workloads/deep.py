"""Deep perceptrons: 12 layers of tanh without normalisation, 24 residual ones that predict quantiles."""

from functools import partial

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded, squared

LEVELS = torch.tensor([0.1, 0.5, 0.9])


class Residual(nn.Module):
    """A layer norm, a perceptron, and the way around both."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, wide), nn.GELU(), nn.Linear(wide, wide))

    def forward(self, stream: Tensor) -> Tensor:
        """Return the stream with something added."""
        return stream + self.net(stream)


def waves(draw: torch.Generator, rows: int = 64) -> Batch:
    """Return points in six dimensions and a wavy function of them, with little noise."""
    places = torch.rand(rows, 6, generator=draw) * 2 - 1
    values = (3 * places[:, 0]).sin() + (2 * places[:, 1] * places[:, 2]).cos() + places[:, 3] * places[:, 4].sign()
    return places, (values + 0.05 * torch.randn(rows, generator=draw))[:, None]


def spread(draw: torch.Generator, rows: int = 64) -> Batch:
    """Return points and values whose noise has a width and a skew of their own."""
    places, values = waves(draw, rows)
    noise = torch.randn(rows, 1, generator=draw).exp() - 1
    return places, values + 0.3 * (1 + places[:, 5:]) * noise


def quantiles(model: nn.Module, batch: Batch) -> Tensor:
    """Return the pinball loss of three quantiles."""
    above = batch[1] - model(batch[0])
    return torch.maximum(LEVELS * above, (LEVELS - 1) * above).mean()


def perceptron(layers: int) -> nn.Module:
    """Return so many layers of weights."""
    hidden = [layer for _ in range(layers - 2) for layer in (nn.Linear(64, 64), nn.Tanh())]
    return nn.Sequential(nn.Linear(6, 64), nn.Tanh(), *hidden, nn.Linear(64, 1))


def residual24() -> nn.Module:
    """Return 24 blocks, pre-norm."""
    return nn.Sequential(nn.Linear(6, 48), *(Residual(48) for _ in range(24)), nn.LayerNorm(48), nn.Linear(48, 3))


def workloads() -> list[Workload]:
    """Return two."""
    draw = torch.Generator().manual_seed(5)
    return [
        Workload(
            "tanh12", "deep", seeded(partial(perceptron, 12)), squared, drawn(waves), [waves(draw, 2000)], 64, 1200
        ),
        Workload("residual24", "deep", seeded(residual24), quantiles, drawn(spread), [spread(draw, 2000)], 64, 400),
    ]
