"""A picture as a function of its coordinates, by a network of sines: judged on the quarter of pixels left out."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, seeded, shuffled, split, squared

SIDE, PULSE, WIDE = 48, 30.0, 64


class Sine(nn.Module):
    """A linear layer and a sine, begun as Sitzmann et al. (2020) do."""

    def __init__(self, inputs: int, bound: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, WIDE)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, values: Tensor) -> Tensor:
        """Return the sines."""
        return (PULSE * self.linear(values)).sin()


def network() -> nn.Module:
    """Return three layers of sines and a linear one."""
    bound = (6 / WIDE) ** 0.5 / PULSE
    return nn.Sequential(Sine(2, 1 / 2), Sine(WIDE, bound), Sine(WIDE, bound), nn.Linear(WIDE, 3))


def picture() -> Batch:
    """Return the pixels' places in [-1, 1] and colours in [0, 1]: a sky, a sun, hills with stripes."""
    line = torch.linspace(-1, 1, SIDE)
    across, down = torch.meshgrid(line, line, indexing="xy")
    sky = torch.stack([0.3 + 0.2 * down, 0.5 + 0.2 * down, 0.9 - 0.2 * down])
    sun = ((0.3 - ((across - 0.4).square() + (down + 0.4).square()).sqrt()) * 20).sigmoid()
    hills = ((down - 0.3 - 0.2 * (4 * across).sin()) * 25).sigmoid()
    stripes = 0.5 + 0.5 * (12 * (across + 2 * down)).sin()
    seen = sky + sun * (torch.tensor([1.0, 0.9, 0.3])[:, None, None] - sky)
    seen = seen + hills * (torch.stack([0.3 * stripes, 0.3 + 0.4 * stripes, 0.2 * stripes]) - seen)
    return torch.stack([across, down], dim=-1).flatten(0, 1), seen.flatten(1).T.contiguous()


def workloads() -> list[Workload]:
    """Return one, in full batch."""
    pixels = SIDE * SIDE * 3 // 4
    data, val = split(picture(), pixels)
    return [Workload("picture_sine", "picture", seeded(network), squared, shuffled(data, pixels), val, pixels, 500)]
