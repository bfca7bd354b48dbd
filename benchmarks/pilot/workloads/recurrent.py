"""Recurrent networks: a symbol to be remembered over 24 fainter others, and a chaotic series."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, drawn, seeded

SYMBOLS, LONG, ROWS = 6, 24, 32


class Recurrent(nn.Module):
    """What a recurrent layer says after each element."""

    def __init__(self, layer: nn.RNNBase, outputs: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(layer.hidden_size, outputs)

    def forward(self, sequence: Tensor) -> Tensor:
        """Sequence (rows, length, inputs) -> (rows, length, outputs)."""
        return self.head(self.layer(sequence)[0])


def recall(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return symbols, one of the first three louder, and which that was."""
    symbols = torch.randint(SYMBOLS, (rows, LONG), generator=draw)
    marked = torch.randint(3, (rows, 1), generator=draw)
    marks = torch.zeros(rows, LONG).scatter_(1, marked, 1.0)
    loud = nn.functional.one_hot(symbols, SYMBOLS) * (0.2 + 0.8 * marks)[..., None]
    return loud, symbols.gather(1, marked).expand(-1, LONG - 3)


def logistic(draw: torch.Generator, rows: int = ROWS) -> Batch:
    """Return a noisy logistic map, read through a nonlinearity, and its value three steps on."""
    value = torch.rand(rows, generator=draw) * 0.8 + 0.1
    values = []
    for _ in range(24):
        value = 3.7 * value * (1 - value)
        values.append(value)
    series = torch.stack(values, dim=1)
    noise = 0.02 * torch.randn(rows, 21, generator=draw)
    return (series[:, :21] + noise)[..., None], series[:, 23:]


def recalled(model: nn.Module, batch: Batch) -> Tensor:
    """Return the cross-entropy of the loud symbol, to be said again after each of those that follow."""
    return nn.functional.cross_entropy(model(batch[0])[:, 3:].flatten(0, 1), batch[1].flatten())


def foretold(model: nn.Module, batch: Batch) -> Tensor:
    """Return the squared error of what is said last."""
    return nn.functional.mse_loss(model(batch[0])[:, -1], batch[1])


def workloads() -> list[Workload]:
    """Return two."""
    draw = torch.Generator().manual_seed(5)
    gru = seeded(lambda: Recurrent(nn.GRU(SYMBOLS, 48, batch_first=True), SYMBOLS))
    lstm = seeded(lambda: Recurrent(nn.LSTM(1, 40, batch_first=True), 1))
    return [
        Workload("gru_recall", "recurrent", gru, recalled, drawn(recall), [recall(draw, 1000)], ROWS, 500),
        Workload("lstm_series", "recurrent", lstm, foretold, drawn(logistic), [logistic(draw, 1000)], ROWS, 1200),
    ]
