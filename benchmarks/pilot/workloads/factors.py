"""Matrix factorisation: ratings from embeddings of users and items, a few of which are very popular."""

import torch
from torch import Tensor, nn

from pilot.workloads.workload import Batch, Workload, generator, seeded, shuffled, split, squared

USERS, ITEMS, WIDE, TRUE = 600, 400, 16, 6


class Factors(nn.Module):
    """Products of embeddings, with a bias for each user and item."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(USERS, WIDE), nn.Embedding(ITEMS, WIDE)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        self.mean = nn.Parameter(torch.zeros(1))
        for table in self.children():
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Pairs (rows, 2) of user and item -> ratings (rows,)."""
        user, item = pairs.unbind(1)
        product = (self.users(user) * self.items(item)).sum(1)
        return product + (self.user_bias(user) + self.item_bias(item))[:, 0] + self.mean


def ratings(rows: int) -> Batch:
    """Return pairs, both drawn by Zipf's law, and ratings about 3.5."""
    draw = generator(4)
    users = torch.multinomial(1 / torch.arange(5.0, USERS + 5), rows, True, generator=draw)
    items = torch.multinomial(1 / torch.arange(5.0, ITEMS + 5), rows, True, generator=draw)
    taste, kind = torch.randn(USERS, TRUE, generator=draw), torch.randn(ITEMS, TRUE, generator=draw)
    bias = torch.randn(ITEMS, generator=draw) / 2
    clean = (taste[users] * kind[items]).sum(1) / TRUE**0.5 + bias[items] + 3.5
    return torch.stack([users, items], dim=1), clean + 0.3 * torch.randn(rows, generator=draw)


def workloads() -> list[Workload]:
    """Return one."""
    data, val = split(ratings(24000), 20000)
    return [
        Workload(
            "factors_zipf", "factors", seeded(Factors), squared, shuffled(data, 128), val, 128, 4000
        )
    ]  # fmt: skip
