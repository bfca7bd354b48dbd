"""Discs found, pixel by pixel, in noisy pictures that also show bars: a trained net goes on with new pictures."""

from functools import cache

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled

SIDE = 16


def network() -> nn.Module:
    """Return five convolutions with group norms, some of them dilated."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=4, dilation=4), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 1, 1),
    )  # fmt: skip


def pictures(rows: int, seed: int) -> Batch:
    """Return pictures of a disc and a bar as wide, and where the disc is seen."""
    draw = generator(seed)
    across, down = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy")
    radius, x, y, other, angle = torch.rand(5, rows, 1, 1, generator=draw)
    radius, angle = 2 + 2 * radius, torch.pi * angle
    disc = ((across - SIDE * x).square() + (down - SIDE * y).square() < radius.square()).float()
    bar = ((across * angle.cos() + down * angle.sin() - SIDE * other).abs() < radius).float()
    clean = torch.maximum(disc, bar * 0.9)
    noisy = clean + 0.4 * torch.randn(rows, SIDE, SIDE, generator=draw)
    return noisy[:, None], (disc * (1 - bar))[:, None]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the pixels."""
    return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


@cache
def trained(seed: int) -> dict[str, Tensor]:
    """Return the weights after 300 steps of AdamW on 400 pictures, made once in a process."""
    model = seeded(network)(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, fused=True)
    batches = shuffled(pictures(400, 16), 16)(1000 + seed)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - step / 300)
        optimizer.zero_grad()
        loss(model, next(batches)).backward()
        optimizer.step()
    return model.state_dict()


def continued(seed: int) -> nn.Module:
    """Return a model that has been trained."""
    model = network()
    model.load_state_dict(trained(seed))
    return model


def workloads() -> list[Workload]:
    """Return one."""
    data, val = pictures(4000, 17), [pictures(300, 18)]
    return [Workload("segments_continued", "continued", continued, loss, shuffled(data, 16), val, 16, 400)]
