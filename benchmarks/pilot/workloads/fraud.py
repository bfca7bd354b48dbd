"""A rare class from a raw table: amounts up to 1e5, rates of 1e-3, flags, heavy tails, two constant columns."""

import torch
from torch import nn

from pilot.workloads.workload import Batch, Workload, cross_entropy, generator, seeded, shuffled, split


def network() -> nn.Module:
    """Return a perceptron of two hidden layers."""
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


def table(rows: int) -> Batch:
    """Return 20 columns as they came, and which rows are frauds: about 1 in 20."""
    draw = generator(15)
    logs, normal = torch.randn(5, rows, generator=draw), torch.randn(4, rows, generator=draw)
    flags = (torch.rand(4, rows, generator=draw) < torch.tensor([0.5, 0.2, 0.05, 0.01])[:, None]).float()
    moment, counts = torch.rand(rows, generator=draw), torch.poisson(torch.full((2, rows), 3.0), generator=draw)
    tails = normal[:2] / normal[2:].abs().clamp(min=0.05)
    score = 1.2 * logs[0] * (1 + flags[0]) + logs[1] - logs[2].abs() + 2 * flags[2] + 0.5 * counts[0] + tails[0].tanh()
    night = 1.5 * (2 * torch.pi * moment).cos()
    fraud = torch.rand(rows, generator=draw) < (score + night - 6.5).sigmoid()
    columns = [
        3000 * logs[0].exp(), 40 * logs[1].exp(), 2 + 0.5 * logs[2], 1e-3 * logs[3].exp(), 1e-3 * (5 + logs[4]),
        *flags, 86400 * moment, *counts, *tails, 1e-2 * normal[2], 200 * normal[3], torch.zeros(rows),
        torch.full((rows,), 2024.0), torch.arange(rows) * 10.0, 500 * logs[0].exp() / (1 + counts[0]),
    ]  # fmt: skip
    return torch.stack(columns, dim=1), fraud.long()


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(table(10000), 6000)
    return [Workload("fraud_raw", "fraud", seeded(network), cross_entropy, shuffled(data, 16), val, 16, 8000)]
