"""Sets of coloured points: a transformer says which colour's points lie furthest apart."""

from functools import cache

import torch
from torch import Tensor, nn

from faults.families.batches import drawn, loader
from faults.families.gpt import Block
from faults.families.scores import cross_entropy, error_rate
from faults.families.task import Task

POINTS, COLOURS = 12, 3


@cache
def data(rows: int = 2400, seed: int = 8) -> tuple[Tensor, Tensor]:
    """Return points (rows, 12, 2 + colours) and the colour with the greatest spread of its first coordinate."""
    draw = drawn(seed)
    colours = torch.arange(POINTS) % COLOURS
    width = 0.3 + 1.5 * torch.rand(rows, COLOURS, generator=draw)
    places = torch.randn(rows, POINTS, 2, generator=draw) * width[:, colours].unsqueeze(-1)
    spread = torch.stack([places[:, colours == each, 0].std(1) for each in range(COLOURS)], dim=1)
    marks = nn.functional.one_hot(colours, COLOURS).float().expand(rows, -1, -1)
    return torch.cat([places, marks], dim=-1), spread.argmax(1)


class Encoder(nn.Module):
    """Two blocks in which every point sees every other, then a mean."""

    def __init__(self, wide: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.begin = nn.Linear(2 + COLOURS, wide)
        self.blocks = nn.Sequential(*(Block(wide, causal=False) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(wide), nn.Linear(wide, COLOURS)

    def forward(self, points: Tensor) -> Tensor:
        """Points -> logits."""
        return self.head(self.norm(self.blocks(self.begin(points))).mean(1))


def error(model: nn.Module) -> float:
    """Return the error rate on new sets."""
    return error_rate(model, *data(600, 9))


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.03, "Adam": 3e-3, "AdamW": 3e-3, "RMSprop": 1e-3, "Adagrad": 2e-2}
    return Task(Encoder, cross_entropy, lambda: loader(*data(), size=64), error, rates, 4)
