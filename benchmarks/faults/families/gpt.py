"""A tiny causal transformer on words of a made-up language: three letters say what the next may be."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families.batches import Shuffled, drawn
from faults.families.task import Task

LETTERS, LONG = 16, 24


@cache
def data(rows: int = 480, seed: int = 5) -> Tensor:
    """Return texts (rows, length + 1): a letter follows from the two before it, one in ten from nothing."""
    draw = drawn(seed)
    table = torch.randint(LETTERS, (LETTERS, LETTERS), generator=drawn(6))
    text = torch.randint(LETTERS, (rows, LONG + 1), generator=draw)
    for at in range(2, LONG + 1):
        odd = torch.rand(rows, generator=draw) < 0.1
        text[:, at] = torch.where(odd, text[:, at], table[text[:, at - 1] % 4, text[:, at - 2]])
    return text


class Attention(nn.Module):
    """Causal self-attention of two heads, written out."""

    def __init__(self, wide: int, heads: int = 2, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal, self.scale = heads, causal, (wide // heads) ** -0.5
        self.qkv, self.out = nn.Linear(wide, 3 * wide), nn.Linear(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        """Stream (rows, length, wide) -> the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) * self.scale
        if self.causal:
            scores = scores.masked_fill(self.hidden(x.shape[1]), float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def hidden(self, long: int) -> Tensor:
        """Return which places a place may not see."""
        return torch.ones(long, long, dtype=torch.bool).triu(1)


class Block(nn.Module):
    """Attention and a perceptron, each after its norm and beside a residual."""

    def __init__(self, wide: int, causal: bool = True) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(wide), nn.LayerNorm(wide)
        self.mix = Attention(wide, causal=causal)
        self.think = nn.Sequential(nn.Linear(wide, 2 * wide), nn.GELU(), nn.Linear(2 * wide, wide))

    def forward(self, x: Tensor) -> Tensor:
        """Return the stream after the block."""
        x = x + self.mix(self.norm1(x))
        return x + self.think(self.norm2(x))


class Gpt(nn.Module):
    """Letters to logits of the next letter."""

    def __init__(self, wide: int = 32, layers: int = 2, causal: bool = True) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, wide), nn.Embedding(LONG, wide)
        self.blocks = nn.ModuleList(Block(wide, causal) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(wide), nn.Linear(wide, LETTERS)

    def forward(self, text: Tensor) -> Tensor:
        """Text (rows, length) -> logits (rows, length, letters)."""
        x = self.letters(text) + self.places.weight[: text.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def next_letter(model: nn.Module, batch: tuple[Tensor]) -> Tensor:
    """Return the mean cross-entropy of the next letter."""
    text = batch[0]
    return F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


@torch.no_grad()
def honest_loss(model: nn.Module) -> float:
    """Return the loss of letters of new texts, each said from the part before it alone."""
    model.eval()
    text = data(100, 7)
    places = (4, 8, 12, 16, 20)
    return sum(F.cross_entropy(model(text[:, :at])[:, -1], text[:, at]).item() for at in places) / len(places)


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.3, "Adam": 0.01, "AdamW": 0.01, "RMSprop": 0.005, "Adagrad": 0.05}
    return Task(Gpt, next_letter, lambda: Shuffled(data(), size=16), honest_loss, rates, 5)
