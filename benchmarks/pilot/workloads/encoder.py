"""A post-norm encoder of torch's own that tells which of six motifs a sequence of letters has in it."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, cross_entropy, generator, seeded, shuffled, split

LETTERS, LONG, MOTIF, KINDS, WIDE = 20, 24, 5, 6, 48


class Encoder(nn.Module):
    """Four layers with dropout, and the mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, WIDE), nn.Parameter(0.1 * torch.randn(LONG, WIDE))
        layer = nn.TransformerEncoderLayer(WIDE, 4, 2 * WIDE, dropout=0.1, batch_first=True)
        self.layers, self.head = nn.TransformerEncoder(layer, 4), nn.Linear(WIDE, KINDS)

    def forward(self, text: Tensor) -> Tensor:
        """Text (rows, length) -> logits (rows, kinds)."""
        return self.head(self.layers(self.letters(text) + self.places).mean(1))


def sequences(rows: int) -> Batch:
    """Return random letters with a motif at a random place, of which one letter is random again, and which it is."""
    draw = generator(11)
    motifs = torch.randint(LETTERS, (KINDS, MOTIF), generator=draw)
    kinds = torch.randint(KINDS, (rows,), generator=draw)
    text = torch.randint(LETTERS, (rows, LONG), generator=draw)
    places = torch.randint(LONG - MOTIF + 1, (rows, 1), generator=draw) + torch.arange(MOTIF)
    kept = torch.arange(MOTIF) != torch.randint(MOTIF, (rows, 1), generator=draw)
    return text.scatter(1, places, torch.where(kept, motifs[kinds], text.gather(1, places))), kinds


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(sequences(5000), 4000)
    return [
        Workload("postnorm_motifs", "postnorm", seeded(Encoder), cross_entropy, shuffled(data, 16), val, 16, 300),
    ]
