"""The density of a series' next value, a mixture of Gaussians given the last six; its floor is the true density's."""

import math

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled

PAST, PARTS, CHAINS, LONG = 6, 5, 40, 300
WEIGHTS = torch.tensor([0.7, 0.22, 0.08])


def log_density(weights: Tensor, means: Tensor, log_spreads: Tensor, values: Tensor) -> Tensor:
    """Log weights, means, log deviations (rows, parts), values (rows, 1) -> the log density of the values (rows,)."""
    far = ((values - means) * (-log_spreads).exp()).square() / 2
    return (weights - far - log_spreads).logsumexp(dim=1) - math.log(2 * math.pi) / 2


def truth(past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the next value is drawn from: it goes on, turns round, or jumps, more so after large values."""
    last, before = past[:, -1], past[:, -2]
    means = torch.stack([0.9 * last - 0.3 * before, -0.8 * last, torch.zeros_like(last)], dim=1)
    size = 0.2 * (1 + (last.square() + before.square() / 2).clamp(max=25)).sqrt()
    spreads = size[:, None] * torch.tensor([1.0, 1.0, 8.0])
    return WEIGHTS.log().expand_as(means), means, spreads.log()


def series() -> Tensor:
    """Return several series (chains, length), drawn value by value."""
    draw = generator(23)
    past = torch.randn(CHAINS, PAST, generator=draw)
    for _ in range(LONG):
        _, means, log_spreads = truth(past)
        part = torch.multinomial(WEIGHTS, CHAINS, True, generator=draw)[:, None]
        noise = torch.randn(CHAINS, 1, generator=draw)
        value = means.gather(1, part) + log_spreads.gather(1, part).exp() * noise
        past = torch.cat([past, value], dim=1)
    return past


def windows(chains: Tensor) -> Batch:
    """Return each value that has a past, after its past."""
    pieces = chains.unfold(1, PAST + 1, 1).flatten(0, 1)
    return pieces[:, :PAST].contiguous(), pieces[:, PAST:].contiguous()


def network() -> nn.Module:
    """Return a perceptron that says log weights, means and log deviations."""
    return nn.Sequential(nn.Linear(PAST, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3 * PARTS))


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the negative log likelihood."""
    weights, means, log_spreads = model(batch[0]).chunk(3, dim=1)
    return -log_density(weights.log_softmax(1), means, log_spreads, batch[1]).mean()


def workloads() -> list[Workload]:
    """Return one."""
    chains = series()
    data, (past, value) = windows(chains[: CHAINS // 2]), windows(chains[CHAINS // 2 :])
    floor = -log_density(*truth(past), value).mean().item()
    return [
        Workload(
            "mixture_series", "mixture", seeded(network), loss, shuffled(data, 64), [(past, value)], 64, 2500,
            floor=floor,
        )
    ]  # fmt: skip
