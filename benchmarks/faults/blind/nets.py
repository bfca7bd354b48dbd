"""The models of this part."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Pictures(nn.Module):
    """Two convolutions with batch norm, a mean over the picture."""

    def __init__(self, wide: int = 10, **norm: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, wide, 3, padding=1), nn.BatchNorm2d(wide, **norm)
        self.conv2, self.bn2 = nn.Conv2d(wide, 2 * wide, 3, padding=1), nn.BatchNorm2d(2 * wide, **norm)
        self.fc = nn.Linear(2 * wide, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures -> logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.amax((2, 3)))


class Waves(nn.Sequential):
    """Two convolutions over time with batch norm."""

    def __init__(self, wide: int = 12, out: int = 5, **norm: float) -> None:
        super().__init__(
            nn.Conv1d(1, wide, 7, padding=3), nn.BatchNorm1d(wide, **norm), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(wide, 16, 5, padding=2), nn.BatchNorm1d(16, **norm), nn.ReLU(),
            nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(32, out),
        )  # fmt: skip


class Flow(nn.Module):
    """Points pushed along a field, layer by layer; then a linear head."""

    def __init__(self, wide: int = 24, depth: int = 4, pace: float = 0.5) -> None:
        super().__init__()
        self.lift, self.head = nn.Linear(2, wide), nn.Linear(wide, 3)
        self.field = nn.ModuleList(nn.Linear(wide, wide) for _ in range(depth))
        self.pace = pace

    def forward(self, x: Tensor) -> Tensor:
        """Points -> logits."""
        h = torch.tanh(2 * self.lift(x))
        for layer in self.field:
            h = h + self.pace * torch.tanh(layer(h))
        return self.head(h)


class Plain(nn.Module):
    """A perceptron of one number."""

    def __init__(self, wide: int = 40, into: int = 12) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(into, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Columns -> numbers (rows,)."""
        return self.net(x).squeeze(-1)


class Rate(nn.Module):
    """The log of a rate."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, wide), nn.Linear(wide, wide), nn.Linear(wide, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Columns -> log rates (rows,)."""
        return self.out(F.silu(self.two(F.silu(self.one(x))))).squeeze(-1)


class Weibull(nn.Sequential):
    """The two numbers of a law of lifetimes."""

    def __init__(self, wide: int = 20) -> None:
        super().__init__(nn.Linear(5, wide), nn.Tanh(), nn.Linear(wide, wide), nn.Tanh(), nn.Linear(wide, 2))


class Form(nn.Module):
    """Each field of a form is a token; a transformer reads them."""

    def __init__(self, wide: int = 24, dropout: float = 0.1) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(0.3 * torch.randn(6, wide)), nn.Parameter(0.3 * torch.randn(6, wide))
        self.choices = nn.ModuleList(nn.Embedding(5, wide) for _ in range(3))
        self.block = nn.TransformerEncoderLayer(wide, 2, 2 * wide, dropout, batch_first=True, norm_first=True)
        self.norm, self.out = nn.LayerNorm(wide), nn.Linear(wide, 1)

    def tokens(self, number: Tensor, choice: Tensor) -> Tensor:
        """Return the fields (rows, 9, wide)."""
        measured = number.unsqueeze(-1) * self.weight + self.bias
        chosen = torch.stack([table(column) for table, column in zip(self.choices, choice.unbind(1), strict=True)], 1)
        return torch.cat([measured, chosen], dim=1)

    def forward(self, number: Tensor, choice: Tensor) -> Tensor:
        """Fields -> logits (rows,)."""
        return self.out(self.norm(self.block(self.tokens(number, choice))).mean(1)).squeeze(-1)


class Speller(nn.Module):
    """A recurrent reader and a recurrent speaker."""

    def __init__(self, wide: int = 48) -> None:
        super().__init__()
        self.letters = nn.Embedding(7, 16)
        self.encoder, self.decoder = nn.GRU(16, wide, batch_first=True), nn.GRU(16, wide, batch_first=True)
        self.out = nn.Linear(wide, 6)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        """Source and what was said before -> logits (rows, length, letters)."""
        _, state = self.encoder(self.letters(source))
        return self.out(self.decoder(self.letters(before), state)[0])


class Hourglass(nn.Module):
    """A U-net over time."""

    def __init__(self, wide: int = 8) -> None:
        super().__init__()
        self.into, self.down = nn.Conv1d(1, wide, 5, padding=2), nn.Conv1d(wide, 2 * wide, 4, stride=2, padding=1)
        self.deep, self.norm = nn.Conv1d(2 * wide, 2 * wide, 5, padding=2), nn.GroupNorm(4, 2 * wide)
        self.up, self.out = nn.ConvTranspose1d(2 * wide, wide, 2, stride=2), nn.Conv1d(2 * wide, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Traces -> logits of marks."""
        top = F.relu(self.into(x))
        low = F.relu(self.down(top))
        low = F.relu(self.norm(self.deep(low)))
        return self.out(torch.cat([top, F.relu(self.up(low))], dim=1))


class Siamese(nn.Sequential):
    """Rows to points."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__(nn.Linear(10, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, 4))


class Mixture(nn.Module):
    """Four bells for each x."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, wide), nn.Tanh(), nn.Linear(wide, wide), nn.Tanh())
        self.out = nn.Linear(wide, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers -> logits of shares, middles, spreads."""
        share, middle, spread = self.out(self.body(2 * x)).chunk(3, dim=-1)
        return share, middle, F.softplus(spread) + 0.02


class TwoHeads(nn.Module):
    """One trunk, two heads."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, wide), nn.GELU(), nn.Linear(wide, wide), nn.GELU())
        self.kind, self.amount = nn.Linear(wide, 4), nn.Linear(wide, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Columns -> logits of kinds, amounts (rows,)."""
        h = self.trunk(x)
        return self.kind(h), self.amount(h).squeeze(-1)


class Filler(nn.Module):
    """A transformer that sees both ways."""

    def __init__(self, wide: int = 32, depth: int = 1) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(13, wide), nn.Parameter(0.5 * torch.randn(12, wide))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(wide, 2, 2 * wide, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )
        self.norm, self.out = nn.LayerNorm(wide), nn.Linear(wide, 12)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens -> logits (rows, length, 12)."""
        h = self.tokens(tokens) + self.places
        for block in self.blocks:
            h = block(h)
        return self.out(self.norm(h))


class Graph(nn.Module):
    """Graph attention of two heads, twice."""

    def __init__(self, wide: int = 16, depth: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        sizes = [10, *[wide] * (depth - 1)]
        self.layers = nn.ModuleList(nn.Linear(size, wide) for size in sizes)
        self.source = nn.ParameterList(0.3 * torch.randn(wide) for _ in sizes)
        self.sink = nn.ParameterList(0.3 * torch.randn(wide) for _ in sizes)
        self.out, self.dropout = nn.Linear(wide, 3), nn.Dropout(dropout)

    def forward(self, marks: Tensor, link: Tensor) -> Tensor:
        """Marks and links -> logits."""
        h = marks
        for layer, source, sink in zip(self.layers, self.source, self.sink, strict=True):
            h = self.dropout(layer(h))
            score = F.leaky_relu((h @ source)[:, None] + h @ sink, 0.2).masked_fill(~link, float("-inf"))
            h = F.elu(score.softmax(-1) @ h)
        return self.out(h)


class Forecast(nn.Module):
    """An LSTM and what it says at the end."""

    def __init__(self, wide: int = 20) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(2, wide, batch_first=True), nn.Linear(wide, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Windows -> next values (rows,)."""
        return self.out(self.lstm(windows)[0][:, -1]).squeeze(-1)
