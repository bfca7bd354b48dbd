"""The models of this part."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Asking(nn.Module):
    """Finds the card that is asked for, by attention over a hand."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.key, self.face = nn.Embedding(8, wide), nn.Embedding(5, wide)
        self.query, self.offer, self.value = (nn.Linear(wide, wide) for _ in range(3))
        self.head = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, 32), nn.ReLU(), nn.Linear(32, 5))
        self.scale = wide**-0.5

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return attention logits (rows, 7)."""
        asked, offered = self.query(self.key(batch["ask"])), self.offer(self.key(batch["key"]))
        return self.scale * (offered @ asked.unsqueeze(-1)).squeeze(-1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return logits (rows, 5)."""
        share = self.scores(batch).masked_fill(~batch["there"], -1e4).softmax(-1)
        return self.head((share.unsqueeze(-1) * self.value(self.face(batch["face"]))).sum(1))


def norm(kind: str, wide: int) -> nn.Module:
    """Return batch or group norm."""
    return nn.BatchNorm2d(wide) if kind == "batch" else nn.GroupNorm(2, wide)


class UNet(nn.Module):
    """Pictures to masks: down once, up once, with a bridge."""

    def __init__(self, wide: int = 8, kind: str = "batch") -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, wide, 3, padding=1), norm(kind, wide), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(wide, 2 * wide, 3, padding=1), norm(kind, 2 * wide), nn.ReLU())
        self.decode = nn.Sequential(nn.Conv2d(3 * wide, wide, 3, padding=1), norm(kind, wide), nn.ReLU())
        self.last = nn.Conv2d(wide, 1, 1)

    def middle(self, x: Tensor) -> Tensor:
        """Return what the lower level says, at its own size."""
        return self.deep(F.max_pool2d(x, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of masks."""
        near = self.down(x)
        far = F.interpolate(self.middle(near), scale_factor=2)
        return self.last(self.decode(torch.cat([near, far], dim=1)))


class Sorter(nn.Module):
    """Reads letters both ways and says them one after the other, looking back with attention."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.letters = nn.Embedding(9, wide)
        self.reader = nn.GRU(wide, wide // 2, batch_first=True, bidirectional=True)
        self.writer = nn.GRU(wide, wide, batch_first=True)
        self.head = nn.Linear(2 * wide, 8)

    def read(self, source: Tensor) -> Tensor:
        """Return a vector for each letter of the source (rows, 5, wide)."""
        return self.reader(self.letters(source))[0]

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Return logits (rows, 5, 8), given the letters before each place."""
        read = self.read(source)
        said, _ = self.writer(self.letters(before), read.mean(1).unsqueeze(0))
        seen = (said @ read.transpose(1, 2) / read.shape[-1] ** 0.5).softmax(-1) @ read
        return self.head(torch.cat([said, seen], dim=-1))


class Whistler(nn.Module):
    """The next value of a wave, by dilated convolutions that look back only."""

    def __init__(self, wide: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.begin = nn.Conv1d(1, wide, 1)
        self.layers = nn.ModuleList(nn.Conv1d(wide, wide, 2, dilation=2**at, padding=2**at) for at in range(depth))
        self.head = nn.Conv1d(wide, 1, 1)

    def trim(self, x: Tensor, long: int) -> Tensor:
        """Take off what padding has put at the end."""
        return x[..., :long]

    def forward(self, wave: Tensor) -> Tensor:
        """Waves (rows, length) -> the next values (rows, length)."""
        x = self.begin(wave.unsqueeze(1))
        for layer in self.layers:
            x = x + torch.relu(self.trim(layer(x), wave.shape[1]))
        return self.head(x).squeeze(1)


class Messages(nn.Module):
    """Energies of graphs, by sums over neighbours."""

    def __init__(self, wide: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.kinds = nn.Embedding(4, wide)
        self.tell = nn.ModuleList(nn.Linear(2 * wide, wide) for _ in range(depth))
        self.head = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 1))

    def forward(self, kind: Tensor, edges: Tensor, owner: Tensor) -> Tensor:
        """Return an energy for each graph (graphs, 1); owner: the graph that an atom is of."""
        x = self.kinds(kind)
        for layer in self.tell:
            heard = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            x = x + torch.relu(layer(torch.cat([x, heard], dim=1)))
        return torch.zeros(int(owner.max()) + 1, 1).index_add(0, owner, self.head(x))


class Score(nn.Module):
    """Which way the density rises, at a noise level."""

    def __init__(self, wide: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU(), nn.Linear(wide, 2)
        )  # fmt: skip

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Points (rows, 2) and noise (rows, 1) -> the noise that was added, in units of its size."""
        return self.net(torch.cat([x, noise.log()], dim=1))


class Embedder(nn.Module):
    """Curves to unit vectors."""

    def __init__(self, wide: int = 48) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(24, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 6))

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors (rows, 6)."""
        return F.normalize(self.net(x), dim=-1)


class Grader(nn.Module):
    """Cumulative logits: a merit, and four thresholds that it may pass."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.merit = nn.Sequential(nn.Linear(8, wide), nn.Tanh(), nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, 1))
        self.steps = nn.Parameter(torch.tensor([-1.0, -0.3, 0.3, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (rows, 4) that the grade is above each threshold."""
        return self.merit(x) - self.steps


class Shopper(nn.Module):
    """One trunk, three heads, and how much each of their losses weighs."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.page = nn.Embedding(12, 6)
        self.trunk = nn.Sequential(nn.Linear(11, wide), nn.GELU(), nn.Linear(wide, wide), nn.GELU())
        self.heads = nn.ModuleDict({name: nn.Linear(wide, n) for name, n in (("buy", 1), ("spend", 1), ("taste", 3))})
        self.spread = nn.Parameter(torch.zeros(3))

    def forward(self, page: Tensor, number: Tensor) -> dict[str, Tensor]:
        """Return what each head says."""
        x = self.trunk(torch.cat([self.page(page), number], dim=1))
        return {name: head(x) for name, head in self.heads.items()}


class Demand(nn.Module):
    """Three quantiles of the sales of a shop on a day."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.shop, self.day = nn.Embedding(10, 5), nn.Embedding(7, 3)
        self.net = nn.Sequential(nn.Linear(11, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 3))

    def forward(self, shop: Tensor, day: Tensor, number: Tensor) -> Tensor:
        """Return quantiles (rows, 3)."""
        return self.net(torch.cat([self.shop(shop), self.day(day), number], dim=1))


class Signs(nn.Module):
    """A convolutional net for coloured pictures."""

    def __init__(self, wide: int = 12, kind: str = "batch") -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, wide, 3, padding=1), norm(kind, wide), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(wide, 2 * wide, 3, padding=1), norm(kind, 2 * wide), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(18 * wide, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (rows, 6)."""
        return self.head(self.features(x).flatten(1))


class Experts(nn.Module):
    """Four experts and who is to be believed where."""

    def __init__(self, wide: int = 8) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, wide), nn.ReLU(), nn.Linear(wide, 1)) for _ in range(4))

    def shares(self, x: Tensor) -> Tensor:
        """Return how much each expert counts (rows, 4)."""
        return self.gate(x).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Return numbers (rows,)."""
        said = torch.cat([expert(x) for expert in self.experts], dim=1)
        return (self.shares(x) * said).sum(1)


class Sine(nn.Module):
    """A linear layer and a sine, with the start that a sine asks for."""

    def __init__(self, wide: int, out: int, pace: float, first: bool = False) -> None:
        super().__init__()
        self.layer, self.pace = nn.Linear(wide, out), pace
        limit = 1 / wide if first else (6 / wide) ** 0.5 / pace
        nn.init.uniform_(self.layer.weight, -limit, limit)

    def forward(self, x: Tensor) -> Tensor:
        """Return sines."""
        return (self.pace * self.layer(x)).sin()


def siren(wide: int = 48, pace: float = 12.0) -> nn.Sequential:
    """Return places -> brightness."""
    return nn.Sequential(Sine(2, wide, pace, True), Sine(wide, wide, pace), nn.Linear(wide, 1))


class Words(nn.Module):
    """Means of word vectors, and what they say of the whole."""

    def __init__(self, wide: int = 24, dropout: float = 0.2) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(400, wide, mode="mean")
        self.head = nn.Sequential(nn.Linear(wide, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 5))

    def forward(self, words: Tensor, starts: Tensor) -> Tensor:
        """Return logits (lines, 5); starts: where in words each line begins."""
        return self.head(self.words(words, starts))


def perceptron(*sizes: int, bend: Any = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these sizes with bends between them."""
    layers: list[nn.Module] = []
    for wide, out in pairwise(sizes):
        layers += [nn.Linear(wide, out), bend()]
    return nn.Sequential(*layers[:-1])
