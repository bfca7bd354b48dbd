"""Convex problems in full batch, where the gradient has no noise: squares of unequal size, and counts."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled, split, squared


def linear(rows: int) -> Batch:
    """Return columns whose sizes span a factor of 30, and a noisy linear target."""
    draw = generator(6)
    columns = torch.randn(rows, 40, generator=draw) * torch.logspace(0.5, -1, 40)
    weights = torch.randn(40, 1, generator=draw) * torch.logspace(-0.5, 1, 40)[:, None]
    return columns, columns @ weights + 0.5 * torch.randn(rows, 1, generator=draw)


def counts(rows: int) -> Batch:
    """Return columns whose sizes span a factor of 10, and counts whose logarithm is linear in them."""
    draw = generator(7)
    columns = torch.randn(rows, 60, generator=draw) * torch.logspace(0.3, -0.7, 60)
    rates = (columns @ torch.randn(60, 1, generator=draw) / 6 + 1).exp()
    return columns, torch.poisson(rates, generator=draw)


def deviance(model: nn.Module, batch: Batch) -> Tensor:
    """Return half the mean Poisson deviance, which is 0 where each count is foretold."""
    log_rate, count = model(batch[0]), batch[1]
    return (log_rate.exp() - count * log_rate + torch.xlogy(count, count) - count).mean()


def workloads() -> list[Workload]:
    """Return two."""
    data, val = split(linear(600), 300)
    counted, other = split(counts(20000), 10000)
    return [
        Workload(
            "quadratic_full", "convex", seeded(lambda: nn.Linear(40, 1)), squared, shuffled(data, 300), val, 300, 6000,
        ),
        Workload(
            "poisson_full", "convex", seeded(lambda: nn.Linear(60, 1)), deviance, shuffled(counted, 10000), other,
            10000, 1000,
        ),
    ]  # fmt: skip
