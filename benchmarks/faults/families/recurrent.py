"""Short noisy waves of four kinds, told apart by a GRU that reads them value by value."""

from functools import cache

import torch
from torch import Tensor, nn

from faults.families.batches import Shuffled, drawn
from faults.families.scores import cross_entropy, error_rate
from faults.families.task import Task

LONG, KINDS = 20, 4


@cache
def data(rows: int = 800, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Return waves (rows, length, 1), sine, square, saw or pulse of any period and phase, and their kinds."""
    draw = drawn(seed)
    kinds = torch.randint(KINDS, (rows,), generator=draw)
    period = 6 + 8 * torch.rand(rows, 1, generator=draw)
    turn = (torch.arange(LONG) / period + torch.rand(rows, 1, generator=draw)) % 1
    sine, saw = (2 * torch.pi * turn).sin(), 2 * turn - 1
    forms = torch.stack([sine, sine.sign(), saw, 2.0 * (turn < 0.2) - 0.4], dim=1)
    waves = forms[torch.arange(rows), kinds] + 0.2 * torch.randn(rows, LONG, generator=draw)
    return waves.unsqueeze(-1), kinds


class Reader(nn.Module):
    """A recurrent layer, its last state, a linear head."""

    def __init__(self, wide: int = 24, layer: type[nn.RNNBase] = nn.GRU) -> None:
        super().__init__()
        self.layer, self.head = layer(1, wide, batch_first=True), nn.Linear(wide, KINDS)

    def forward(self, waves: Tensor) -> Tensor:
        """Waves -> logits."""
        return self.head(self.layer(waves)[0][:, -1])


def error(model: nn.Module) -> float:
    """Return the error rate on waves that were not trained on."""
    return error_rate(model, *data(600, 4))


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.2, "Adam": 0.02, "AdamW": 0.02, "RMSprop": 0.008, "Adagrad": 0.05}
    return Task(Reader, cross_entropy, lambda: Shuffled(*data(), size=32), error, rates, 5)
