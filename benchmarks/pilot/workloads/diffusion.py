"""Denoising diffusion on digits: tell the noise from the noisy picture and its level."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pilot.workloads.digits import digits
from pilot.workloads.workload import Batch, Workload, seeded, shuffled, split


class Denoiser(nn.Module):
    """A perceptron that is told the level in sines."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", torch.arange(1, 9) * torch.pi / 2)
        self.net = nn.Sequential(
            nn.Linear(64 + 16, 192), nn.SiLU(), nn.Linear(192, 192), nn.SiLU(), nn.Linear(192, 192), nn.SiLU(),
            nn.Linear(192, 64),
        )  # fmt: skip

    def forward(self, pictures: Tensor, level: Tensor) -> Tensor:
        """Pictures (rows, 64), levels (rows, 1) in [0, 1] -> the noise."""
        angles = level * self.waves
        return self.net(torch.cat([pictures, angles.sin(), angles.cos()], dim=1))


def noised(pictures: Tensor, draw: torch.Generator) -> Batch:
    """Return noisy pictures, levels and the noise."""
    level = torch.rand(len(pictures), 1, generator=draw)
    noise = torch.randn(pictures.shape, generator=draw)
    angle = level * torch.pi / 2
    return angle.cos() * (2 * pictures - 1) + angle.sin() * noise, level, noise


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the squared error of the noise."""
    return nn.functional.mse_loss(model(*batch[:2]), batch[2])


def workloads() -> list[Workload]:
    """Return one."""
    data, ((others, _),) = split(digits(), 1200)

    def batches(seed: int) -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(seed)
        for (pictures,) in shuffled(data[:1], 64)(seed):
            yield noised(pictures, draw)

    val = [noised(others, torch.Generator().manual_seed(5))]
    return [Workload("diffusion_digits", "diffusion", seeded(Denoiser), loss, batches, val, 64, 2000)]
