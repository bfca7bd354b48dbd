"""A tiny GPT on the text of Python's standard library, from the start and continued."""

import argparse
import inspect
import json.decoder
import textwrap
from functools import cache

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded

WIDE, LONG, LAYERS, VOCABULARY = 64, 48, 2, 128
ROWS = 8


class Block(nn.Module):
    """Attention and a perceptron, each after a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDE), nn.LayerNorm(WIDE)
        self.mix, self.join = nn.Linear(WIDE, 3 * WIDE, bias=False), nn.Linear(WIDE, WIDE, bias=False)
        self.think = nn.Sequential(nn.Linear(WIDE, 4 * WIDE), nn.GELU(), nn.Linear(4 * WIDE, WIDE))

    def forward(self, stream: Tensor) -> Tensor:
        """Return the residual stream after the block."""
        parts = self.mix(self.first(stream)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        stream = stream + self.join(seen.transpose(1, 2).flatten(2))
        return stream + self.think(self.second(stream))


class Gpt(nn.Module):
    """Letters to logits of the next letter."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(VOCABULARY, WIDE), nn.Embedding(LONG, WIDE)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDE), nn.Linear(WIDE, VOCABULARY, bias=False)
        for table in (self.letters, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, text: Tensor) -> Tensor:
        """Text (rows, length) -> logits (rows, length, letters)."""
        return self.head(self.norm(self.blocks(self.letters(text) + self.places.weight[: text.shape[1]])))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the next letter."""
    (text,) = batch
    return nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


@cache
def letters() -> Tensor:
    """Return about 130,000 letters of standard library modules."""
    text = "".join(inspect.getsource(module) for module in (argparse, textwrap, json.decoder))
    return torch.tensor([ord(letter) % VOCABULARY for letter in text])


def pieces(draw: torch.Generator, first: float = 0.0, last: float = 0.9, rows: int = ROWS) -> Batch:
    """Return random pieces of a part of the text, ends given as shares."""
    text = letters()
    starts = torch.randint(int(first * len(text)), int(last * len(text)) - LONG - 1, (rows, 1), generator=draw)
    return (text[starts + torch.arange(LONG + 1)],)


@cache
def trained(seed: int) -> dict[str, Tensor]:
    """Return the weights after 150 steps of AdamW with decay to zero, made once in a process."""
    model = seeded(Gpt)(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, fused=True)
    draw = torch.Generator().manual_seed(1000 + seed)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, (step + 1) / 10) * (1 - step / 150)
        optimizer.zero_grad()
        loss(model, pieces(draw, rows=16)).backward()
        optimizer.step()
    return model.state_dict()


def continued(seed: int) -> nn.Module:
    """Return a model that has been trained."""
    model = Gpt()
    model.load_state_dict(trained(seed))
    return model


def workloads() -> list[Workload]:
    """Return two."""
    val = [pieces(torch.Generator().manual_seed(5), 0.9, 1.0, 64)]
    return [
        Workload("gpt_stdlib", "gpt", seeded(Gpt), loss, drawn(pieces), val, ROWS, 400),
        Workload("gpt_continued", "continued", continued, loss, drawn(pieces), val, ROWS, 250),
    ]
