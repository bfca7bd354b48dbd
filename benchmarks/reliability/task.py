"""The training that is killed: it draws from every generator, keeps moments and a mean of the weights, evaluates."""

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from reliability import watch
from steepest import Task, optim

WIDE, STEPS, EVERY = 1024, 40, 2
"""1.2 M parameters; with two moments and the mean a checkpoint has 4.7 M numbers."""


class Noisy(Dataset):
    """Samples that are different each time they are read, by all three generators."""

    def __init__(self, samples: int) -> None:
        draw = torch.Generator().manual_seed(1)
        self.x, self.y = torch.randn(samples, 64, generator=draw), torch.randn(samples, 8, generator=draw)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(64) + random.random() + torch.from_numpy(np.random.rand(64)).float()
        return self.x[place] + 0.1 * noise, self.y[place]


def network() -> nn.Module:
    """Return a network with dropout, the same one each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, WIDE), nn.ReLU(), nn.Dropout(0.2), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(WIDE, 8),
    )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Squared error; tells a watcher what it was called for."""
    for each in watch.own:
        each.enter("train" if model.training else "evaluate")
        each.add("steps" if model.training else "evaluated")
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def task() -> Task:
    """Return what `steepest fit` takes."""
    model = network()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, clip=1.0, ema=0.99)
    return Task(
        model, loss, Noisy(160), steps=STEPS, val=Noisy(240), evaluate_every=7, optimizer=optimizer, batch_size=16
    )
