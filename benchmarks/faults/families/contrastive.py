"""Two noisy views of a digit shall be alike and unlike all others; measured on views of new digits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faults.families import digits
from faults.families.batches import Shuffled
from faults.families.task import Task


class Encoder(nn.Module):
    """A trunk and a projection."""

    def __init__(self, wide: int = 64, out: int = 16) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
        self.projection = nn.Linear(wide, out)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels -> points on a sphere."""
        return F.normalize(self.projection(self.trunk(x)), dim=-1)


def views(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pixels twice: shifted a little, some dropped, noisy."""
    pictures = x.view(-1, 8, 8)
    made = []
    for _ in range(2):
        moved = pictures.roll(int(torch.randint(-1, 2, ())), int(torch.randint(1, 3, ())))
        kept = (torch.rand_like(moved) > 0.15).float()
        made.append((moved * kept + 0.2 * torch.randn_like(moved)).flatten(1))
    return made[0], made[1]


def info_nce(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy of finding the other view among all of the batch."""
    one, other = model(batch[0]), model(batch[1])
    likeness = one @ other.T / 0.2
    return F.cross_entropy(likeness, torch.arange(len(one)))


class Views:
    """Batches of two views, made anew in each epoch."""

    def __init__(self, x: Tensor, size: int = 64) -> None:
        self.rows = Shuffled(x, size=size)

    def __iter__(self):  # noqa: ANN204
        return (views(x) for (x,) in self.rows)


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Return the loss on the test digits, 64 at a time."""
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        pairs = [views(rows) for rows in digits.data()[2][:640].split(64)]
    return sum(info_nce(model, pair).item() for pair in pairs) / len(pairs)


def task() -> Task:
    """Return the family."""
    rates = {"SGD": 0.02, "Adam": 3e-3, "AdamW": 3e-3, "RMSprop": 1e-3, "Adagrad": 2e-2}
    return Task(Encoder, info_nce, lambda: Views(digits.data()[0]), error, rates, 8)
