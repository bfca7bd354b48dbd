"""What others have trained: a head on a frozen random backbone, and a network of other digits trained on."""

from functools import cache

import torch
from torch import Tensor, nn

from pilot.workloads.digits import digits
from pilot.workloads.workload import Batch, Workload, cross_entropy, seeded, shuffled, split


def probe() -> nn.Module:
    """Return a linear layer on 1024 random features that are not trained."""
    backbone = nn.Sequential(nn.Linear(64, 1024), nn.ReLU())
    return nn.Sequential(backbone.requires_grad_(False), nn.Linear(1024, 10))


def network() -> nn.Module:
    """Return a perceptron of four layers with layer norms."""
    middle = [layer for _ in range(2) for layer in (nn.Linear(256, 256), nn.LayerNorm(256), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), *middle, nn.Linear(256, 5))


def of_classes(first: int) -> Batch:
    """Return the digits from first on, five of them."""
    pictures, classes = digits()
    kept = (classes >= first) & (classes < first + 5)
    return pictures[kept], classes[kept] - first


@cache
def trained(seed: int) -> dict[str, Tensor]:
    """Return the weights after 300 steps of AdamW on the digits 0 to 4, made once in a process."""
    model = seeded(network)(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    batches = shuffled(of_classes(0), 32)(1000 + seed)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 300)
        optimizer.zero_grad()
        cross_entropy(model, next(batches)).backward()
        optimizer.step()
    return model.state_dict()


def fine_tuned(seed: int) -> nn.Module:
    """Return the trained network with a new last layer."""
    model = seeded(network)(seed)
    old = {name: value for name, value in trained(seed).items() if not name.startswith("8.")}
    model.load_state_dict(old, strict=False)
    return model


def workloads() -> list[Workload]:
    """Return two."""
    data, val = split(digits(), 1000)
    few, other = split(of_classes(5), 400)
    return [
        Workload("probe_digits", "probe", seeded(probe), cross_entropy, shuffled(data, 32), val, 32, 3000),
        Workload("finetune_digits", "continued", fine_tuned, cross_entropy, shuffled(few, 32), other, 32, 200),
    ]
