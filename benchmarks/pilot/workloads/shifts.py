"""Convolutions with batch norm on 700 digits, a fifth of the labels drawn at random, shifted anew each time."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pilot.workloads.digits import digits, relabelled
from pilot.workloads.workload import Batch, Workload, cross_entropy, generator, seeded, shuffled, split


def network() -> nn.Module:
    """Return three convolutions, each with a batch norm, and a head."""
    sizes = ((1, 16), (16, 32), (32, 48))
    layers = [
        layer
        for inputs, outputs in sizes
        for layer in (nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
    ]
    layers.insert(6, nn.MaxPool2d(2))
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, 10))


def shifted(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """Return each picture moved by at most one pixel in either direction; what is moved in is black."""
    rows = torch.arange(len(pictures))[:, None, None]
    down, across = torch.randint(3, (2, len(pictures), 1, 1), generator=draw)
    places = torch.arange(8)
    framed = nn.functional.pad(pictures.unflatten(1, (8, 8)), (1, 1, 1, 1))
    return framed[rows, down + places[:, None], across + places].flatten(1)


def workloads() -> list[Workload]:
    """Return one; validated on true labels."""
    (pictures, classes), val = split(digits(), 700)
    noisy = relabelled(classes, 0.2)

    def batches(seed: int) -> Iterator[Batch]:
        draw = generator(seed)
        for some, labels in shuffled((pictures, noisy), 50)(seed):
            yield shifted(some, draw), labels

    return [Workload("batchnorm_shifts", "batchnorm", seeded(network), cross_entropy, batches, val, 50, 500)]
