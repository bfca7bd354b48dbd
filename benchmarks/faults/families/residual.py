"""A deep residual perceptron with layer norm, on points that spiral."""

from functools import cache

import torch
from torch import Tensor, nn

from faults.families.batches import Shuffled, drawn
from faults.families.scores import cross_entropy, error_rate
from faults.families.task import Task


@cache
def data(rows: int = 960, seed: int = 21) -> tuple[Tensor, Tensor]:
    """Return points (rows, 2) on three arms of a spiral, and the arm."""
    draw = drawn(seed)
    arm = torch.randint(3, (rows,), generator=draw)
    out = torch.rand(rows, generator=draw).sqrt()
    angle = 4.5 * out + arm * 2 * torch.pi / 3 + 0.12 * torch.randn(rows, generator=draw)
    return 1.7 * out.unsqueeze(1) * torch.stack([angle.cos(), angle.sin()], dim=1), arm


class Layer(nn.Module):
    """Adds what a perceptron says of the normalised stream."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide))

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after the layer."""
        return x + self.inner(x)


def net(wide: int = 32, layers: int = 5) -> nn.Sequential:
    """Return the network."""
    return nn.Sequential(
        nn.Linear(2, wide), *(Layer(wide) for _ in range(layers)), nn.LayerNorm(wide), nn.Linear(wide, 3)
    )  # fmt: skip


def error(model: nn.Module) -> float:
    """Return the error rate on new points."""
    return error_rate(model, *data(800, 22))


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.01, "Adam": 0.003, "AdamW": 0.003, "RMSprop": 0.001, "Adagrad": 0.02}
    return Task(net, cross_entropy, lambda: Shuffled(*data(), size=32), error, rates, 5)
