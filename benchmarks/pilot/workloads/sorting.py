"""A transformer of 24 layers that reads six symbols and then says them in order."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded

WIDE, HEADS, LAYERS, SYMBOLS, LONG, ROWS = 48, 4, 24, 10, 6, 8


class Block(nn.Module):
    """Attention to what came before and a perceptron, each after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDE), nn.LayerNorm(WIDE)
        self.ask, self.key, self.value = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, WIDE)
        self.join = nn.Linear(WIDE, WIDE)
        self.think = nn.Sequential(nn.Linear(WIDE, 4 * WIDE), nn.GELU(), nn.Linear(4 * WIDE, WIDE))

    def forward(self, stream: Tensor) -> Tensor:
        """Return the residual stream after the block."""
        normed = self.first(stream)
        parts = [make(normed).unflatten(-1, (HEADS, -1)).transpose(1, 2) for make in (self.ask, self.key, self.value)]
        seen = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        stream = stream + self.join(seen.transpose(1, 2).flatten(2))
        return stream + self.think(self.second(stream))


class Sorter(nn.Module):
    """Symbols to logits of the next symbol."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols, self.places = nn.Embedding(SYMBOLS, WIDE), nn.Embedding(2 * LONG - 1, WIDE)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDE), nn.Linear(WIDE, SYMBOLS)

    def forward(self, said: Tensor) -> Tensor:
        """Symbols (rows, length) -> logits (rows, length, symbols)."""
        return self.head(self.norm(self.blocks(self.symbols(said) + self.places.weight)))


def lists(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return symbols followed by the same in order."""
    symbols = torch.randint(SYMBOLS, (rows, LONG), generator=draw)
    return (torch.cat([symbols, symbols.sort(dim=1).values], dim=1),)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the second half."""
    (said,) = batch
    logits = model(said[:, :-1])[:, LONG - 1 :]
    return nn.functional.cross_entropy(logits.flatten(0, 1), said[:, LONG:].flatten())


def workloads() -> list[Workload]:
    """Return one."""
    val = [lists(torch.Generator().manual_seed(5), 256)]
    return [Workload("transformer24_sort", "transformer", seeded(Sorter), loss, drawn(lists), val, ROWS, 150)]
