"""Triplets: two distorted recordings of one signal are to be closer to each other than to one of another signal."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled

LONG, ROWS = 64, 24


def network() -> nn.Module:
    """Return convolutions along time, averaged, to 16 numbers."""
    return nn.Sequential(
        nn.Unflatten(1, (1, LONG)), nn.Conv1d(1, 16, 7, stride=2), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2), nn.ReLU(),
        nn.Conv1d(32, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 16),
    )  # fmt: skip


def signals(rows: int) -> Batch:
    """Return sums of three waves of their own pulses and weights."""
    draw = generator(14)
    pulses = 0.15 + 1.2 * torch.rand(rows, 3, 1, generator=draw)
    weights, phases = torch.rand(2, rows, 3, 1, generator=draw)
    return ((weights * (pulses * torch.arange(2 * LONG) + 6.3 * phases).sin()).sum(1),)


def recorded(whole: Tensor, draw: torch.Generator) -> Tensor:
    """Return a piece of each signal from a random moment on, of another loudness, with noise."""
    starts = torch.randint(LONG, (len(whole), 1), generator=draw)
    loudness = (0.3 * torch.randn(len(whole), 1, generator=draw)).exp()
    return loudness * whole.gather(1, starts + torch.arange(LONG)) + 0.3 * torch.randn(len(whole), LONG, generator=draw)


def triplets(whole: Tensor, draw: torch.Generator) -> Batch:
    """Return two recordings of each, and one of its neighbour."""
    return recorded(whole, draw), recorded(whole, draw), recorded(whole.roll(1, 0), draw)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return by how much the far one is not farther than the near one, and a margin."""
    return nn.functional.triplet_margin_loss(*model(torch.cat(batch)).chunk(3))


def workloads() -> list[Workload]:
    """Return one."""
    (whole,) = signals(1800)

    def batches(seed: int) -> Iterator[Batch]:
        draw = generator(seed)
        for (some,) in shuffled((whole[:800],), ROWS)(seed):
            yield triplets(some, draw)

    val = [triplets(whole[800:], generator(5))]
    return [Workload("triplet_signals", "triplet", seeded(network), loss, batches, val, ROWS, 1000)]
