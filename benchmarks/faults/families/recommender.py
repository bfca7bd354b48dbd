"""Who likes what: vectors of people and things whose products are ratings; most people rate little."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families.batches import Shuffled, drawn
from faults.families.task import Task

PEOPLE, THINGS = 80, 120


@cache
def data(rows: int = 3000, seed: int = 18) -> tuple[Tensor, Tensor, Tensor]:
    """Return persons, things, and ratings of about unit spread; persons and things are drawn by Zipf's law."""
    draw, taste = drawn(seed), drawn(19)
    one, other = torch.randn(PEOPLE, 4, generator=taste), torch.randn(THINGS, 4, generator=taste)
    liked = torch.randn(THINGS, generator=taste)
    person = torch.multinomial(1 / (torch.arange(PEOPLE) + 10.0), rows, True, generator=draw)
    thing = torch.multinomial(1 / (torch.arange(THINGS) + 10.0), rows, True, generator=draw)
    rating = 0.4 * (one[person] * other[thing]).sum(1) + 0.7 * liked[thing]
    return person, thing, rating + 0.2 * torch.randn(rows, generator=draw)


class Factors(nn.Module):
    """Vectors and a bias for each person and thing."""

    def __init__(self, wide: int = 8, sparse: bool = False) -> None:
        super().__init__()
        self.person, self.thing = nn.Embedding(PEOPLE, wide, sparse=sparse), nn.Embedding(THINGS, wide, sparse=sparse)
        self.liked = nn.Embedding(THINGS, 1, sparse=sparse)
        for table in (self.person, self.thing, self.liked):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, person: Tensor, thing: Tensor) -> Tensor:
        """Return ratings (rows,)."""
        return (self.person(person) * self.thing(thing)).sum(1) + self.liked(thing).squeeze(1)


def squared(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the mean squared error of ratings."""
    person, thing, rating = batch
    return F.mse_loss(model(person, thing), rating)


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the same on ratings that were not trained on."""
    model.eval()
    return squared(model, data(1000, 20)).item()


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.3, "Adam": 0.03, "AdamW": 0.03, "RMSprop": 0.01, "Adagrad": 0.2}
    return Task(Factors, squared, lambda: Shuffled(*data(), size=50), error, rates, 5)
