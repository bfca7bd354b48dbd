"""Fine-tuning: a net that knows four forms of wave learns three kinds of fault from 90 examples, four at a time."""

from functools import cache

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, cross_entropy, generator, seeded, shuffled

LONG = 64


def network(kinds: int) -> nn.Module:
    """Return convolutions along time and a head."""
    return nn.Sequential(
        nn.Conv1d(1, 16, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 32, 5, padding=2), nn.ReLU(),
        nn.MaxPool1d(2), nn.Conv1d(32, 32, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(),
        nn.Linear(128, kinds),
    )  # fmt: skip


def phases(rows: int, draw: torch.Generator) -> Tensor:
    """Return the phase at each moment, of waves whose length is from 8 to 32."""
    pulse, start = torch.rand(2, rows, 1, generator=draw)
    return 2 * torch.pi * (torch.arange(LONG) / (8 + 24 * pulse) + start)


def noisy(waves: Tensor, draw: torch.Generator) -> Tensor:
    """Return the waves as one channel, with noise."""
    return (waves + 0.3 * torch.randn(waves.shape, generator=draw))[:, None]


def forms(rows: int, seed: int) -> Batch:
    """Return sines, squares, triangles and saws, and which they are."""
    draw = generator(seed)
    phase, kinds = phases(rows, draw), torch.randint(4, (rows, 1), generator=draw)
    saw = (phase / torch.pi) % 2 - 1
    waves = torch.stack([phase.sin(), phase.sin().sign(), 2 * saw.abs() - 1, saw])
    return noisy(waves.gather(0, kinds.expand(1, rows, LONG))[0], draw), kinds[:, 0]


def faults(rows: int, seed: int) -> Batch:
    """Return sines that are whole, clipped, or dying away, and which they are."""
    draw = generator(seed)
    phase, kinds = phases(rows, draw), torch.randint(3, (rows, 1), generator=draw)
    waves = torch.stack(
        [phase.sin(), phase.sin().clamp(-0.6, 0.6) / 0.8, phase.sin() * (-torch.arange(LONG) / 60).exp()]
    )
    return noisy(waves.gather(0, kinds.expand(1, rows, LONG))[0], draw), kinds[:, 0]


@cache
def trained(seed: int) -> dict[str, Tensor]:
    """Return the weights after 400 steps of AdamW on the forms, made once in a process."""
    model = seeded(lambda: network(4))(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    batches = shuffled(forms(2000, 19), 32)(1000 + seed)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
        optimizer.zero_grad()
        cross_entropy(model, next(batches)).backward()
        optimizer.step()
    return model.state_dict()


def fine_tuned(seed: int) -> nn.Module:
    """Return the trained network with a new last layer."""
    model = seeded(lambda: network(3))(seed)
    old = {name: value for name, value in trained(seed).items() if not name.startswith("10.")}
    model.load_state_dict(old, strict=False)
    return model


def workloads() -> list[Workload]:
    """Return one."""
    few, val = faults(90, 20), [faults(900, 21)]
    return [Workload("finetune_faults", "finetune", fine_tuned, cross_entropy, shuffled(few, 4), val, 4, 1200)]
