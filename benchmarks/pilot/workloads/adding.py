"""The adding problem: of 30 numbers two are marked, and an LSTM says their sum at the end."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded, squared

LONG, WIDE, ROWS = 30, 40, 32


class Adder(nn.Module):
    """What a recurrent layer says at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(2, WIDE, batch_first=True), nn.Linear(WIDE, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        """Sequence (rows, length, 2) -> (rows, 1)."""
        return self.head(self.layer(sequence)[0][:, -1])


def sums(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return numbers in [0, 1] beside marks, one in either half, and the sum of the marked."""
    numbers = torch.rand(rows, LONG, generator=draw)
    half = LONG // 2
    places = torch.randint(half, (rows, 2), generator=draw) + torch.tensor([0, half])
    marks = torch.zeros(rows, LONG).scatter_(1, places, 1.0)
    return torch.stack([numbers, marks], dim=2), (numbers * marks).sum(1, keepdim=True)


def workloads() -> list[Workload]:
    """Return one."""
    val = [sums(torch.Generator().manual_seed(5), 1000)]
    return [Workload("lstm_adding", "adding", seeded(Adder), squared, drawn(sums), val, ROWS, 800)]
