"""What recomputing activations saves and costs, for a transformer of 12 blocks."""

import statistics
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from reliability.table import Row, at_most
from steepest import Run
from steepest.loop.activations import saved_bytes

WIDE, LENGTH, BATCH, TURNS = 128, 128, 8, 15


class Block(nn.Module):
    """A block of a GPT."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDE), nn.LayerNorm(WIDE)
        self.attention = nn.MultiheadAttention(WIDE, 4, batch_first=True)
        self.rest = nn.Sequential(nn.Linear(WIDE, 4 * WIDE), nn.GELU(), nn.Linear(4 * WIDE, WIDE))

    def forward(self, x: Tensor) -> Tensor:
        """Return what goes into the next one."""
        normed = self.before(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.rest(self.after(x))


class Transformer(nn.Module):
    """Twelve blocks between an embedding and the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Embedding(256, WIDE), nn.ModuleList(Block() for _ in range(12))
        self.out = nn.Linear(WIDE, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of each place."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.out(x)


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Cross-entropy."""
    tokens, targets = batch
    return nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def report() -> list[Row]:
    """Measure, in turns; return the rows of the table."""
    torch.manual_seed(0)
    batches = [list(torch.randint(256, (2, BATCH, LENGTH)))] * (TURNS + 4)
    runs = {recomputed: train(batches, recomputed) for recomputed in (False, True)}
    memory = {recomputed: kept(run, batches[0]) for recomputed, run in runs.items()}
    times: dict[bool, list[float]] = {False: [], True: []}
    steps = {recomputed: iter(run) for recomputed, run in runs.items()}
    for turn in range(TURNS + 2):
        for recomputed, run in steps.items():
            began = perf_counter()
            next(run)
            if turn >= 2:
                times[recomputed].append(perf_counter() - began)
    median = {recomputed: statistics.median(taken) for recomputed, taken in times.items()}
    equal = all(torch.equal(*pair) for pair in zip(*(run.model.parameters() for run in runs.values()), strict=True))
    return [
        Row("activations kept for the backward pass", f"{memory[False] / 1e6:.1f} MB, {memory[True] / 1e6:.1f} MB"),
        at_most("  ratio", memory[True] / memory[False], 0.4, "", 3),
        Row("step", f"{median[False] * 1e3:.0f} ms, {median[True] * 1e3:.0f} ms"),
        at_most("  ratio of the medians", median[True] / median[False], 1.4, "", 3),
        Row("weights after it", "equal to the bit" if equal else "different", "equal", equal),
    ]


def train(batches: list[Any], recomputed: bool) -> Run:
    """Return a run over the batches."""
    torch.manual_seed(0)
    model = Transformer()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    return Run(model, loss, batches, optimizer=optimizer, steps=len(batches), checkpoint_activations=recomputed)


def kept(run: Run, batch: list[Tensor]) -> int:
    """Return how many bytes a forward pass keeps."""
    with saved_bytes(run.model) as saved:
        run.gradient.loss(run.model, batch)
    return saved()
