"""What a demonstration of a cause is made of: a small program with the fault in it, and the same without."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.doctor import Doctor, watch
from steepest.record import Finding

Rows = tuple[Tensor, Tensor]


class Demo:
    """What the program of a demonstration is given. faulty: whether the fault is to be there."""

    def __init__(self, faulty: bool) -> None:
        self.faulty = faulty
        self.doctor: Doctor | None = None

    def watch(self, model: nn.Module, optimizer: Any, loss: Any = None, scheduler: Any = None) -> Doctor:
        """Watch the program."""
        self.doctor = watch(model, optimizer, loss, scheduler)
        return self.doctor

    def network(self, inputs: int = 8, outputs: int = 3, wide: int = 32) -> nn.Sequential:
        """Return a perceptron of two hidden layers."""
        return nn.Sequential(
            nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, outputs)
        )

    def classes(self, rows: int = 512, kinds: int = 3) -> Rows:
        """Return inputs of 8 columns, and which of three classes they are of: the largest of three mixtures."""
        draw = torch.Generator().manual_seed(1)
        x = torch.randn(rows, 8, generator=draw)
        return x, (x @ torch.randn(8, kinds, generator=draw)).argmax(1)

    def numbers(self, rows: int = 512) -> Rows:
        """Return inputs of 8 columns, and a number for each row that hangs on them in a curve."""
        draw = torch.Generator().manual_seed(2)
        x = torch.randn(rows, 8, generator=draw)
        return x, (x @ torch.randn(8, 1, generator=draw)).tanh() + x[:, :1] / 2

    def batches(self, data: Rows, epochs: int = 8, size: int = 32, shuffle: bool = True) -> Iterator[Rows]:
        """Yield batches, shuffled in each epoch."""
        draw = torch.Generator().manual_seed(3)
        for _ in range(epochs):
            order = torch.randperm(len(data[0]), generator=draw) if shuffle else torch.arange(len(data[0]))
            for some in order.split(size):
                yield data[0][some], data[1][some]


def entropy(model: nn.Module, batch: Rows) -> Tensor:
    """Return the cross-entropy of a batch."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def squares(model: nn.Module, batch: Rows) -> Tensor:
    """Return the mean squared error of a batch."""
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def train(run: Demo, model: nn.Module, optimizer: Any, loss: Any, batches: Any) -> None:
    """Train as anyone would, watched."""
    for batch in run.watch(model, optimizer, loss)(batches):
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()


def demonstrate(program: Any, faulty: bool = True) -> tuple[list[Finding], list[str]]:
    """Run a demonstration; return what the doctor found, and what went wrong in the doctor."""
    run = Demo(faulty)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        program(run)
    assert run.doctor is not None
    found, errors = run.doctor.findings, run.doctor.errors
    run.doctor.close()
    return found, errors
