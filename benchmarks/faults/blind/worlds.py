"""What the programs of this part train: small models and made-up data, each with the manner of loop that suits it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from faults.blind import nets
from faults.case import Run

Batch = Any


@dataclass(frozen=True)
class World:
    """model, loss, loader of an epoch and measure, lower is better; good rates; epochs; the manner of loop."""

    model: Callable[..., nn.Module]
    loss: Callable[[nn.Module, Any], Tensor]
    data: Callable[[], Iterable[Any]]
    measure: Callable[[nn.Module], float]
    rates: Mapping[str, float]
    epochs: int
    manner: str = "epochs"


def rates(sgd: float, adam: float, rms: float) -> dict[str, float]:
    """Return rates by optimizer."""
    return {"SGD": sgd, "Adam": adam, "AdamW": adam, "RMSprop": rms}


def drawn(seed: int) -> torch.Generator:
    """Return a generator for data that are the same in every run."""
    return torch.Generator().manual_seed(seed)


class Rows(Dataset):
    """Columns by name; a row is a dict."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: column[row] for name, column in self.columns.items()}


def tuples(*columns: Tensor, size: int = 32, shuffle: bool = True) -> DataLoader:
    """Return a loader of tuples."""
    return DataLoader(TensorDataset(*columns), batch_size=size, shuffle=shuffle)


def dicts(size: int = 32, shuffle: bool = True, **columns: Tensor) -> DataLoader:
    """Return a loader of dicts."""
    return DataLoader(Rows(**columns), batch_size=size, shuffle=shuffle, drop_last=True)


def repeated(batches: Iterable[Any], steps: int) -> Iterator[Any]:
    """Yield so many batches, starting over as often as needed."""
    while steps > 0:
        for batch in batches:
            yield batch
            steps -= 1
            if steps == 0:
                return


def judged(loss: Callable[[nn.Module, Any], Tensor], batch: Callable[[], Any]) -> Callable[[nn.Module], float]:
    """Return a measure: the loss of other data, in evaluation mode."""

    def measure(model: nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            return loss(model, batch()).item()

    return measure


def mistaken(batch: Callable[[], Any]) -> Callable[[nn.Module], float]:
    """Return a measure: the share of wrong classes among other data, in evaluation mode."""

    def measure(model: nn.Module) -> float:
        model.eval()
        inputs, classes = batch()
        with torch.no_grad():
            logits = model(inputs)
        return ((logits.argmax(-1) != classes) | ~logits.isfinite().all(-1)).float().mean().item()

    return measure


def classed(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the cross-entropy."""
    inputs, classes = batch
    return F.cross_entropy(model(inputs), classes)


# Pictures of one bar in noise: across, down, or one of two diagonals.
@cache
def bars(rows: int = 640, seed: int = 201) -> tuple[Tensor, Tensor]:
    """Return pictures (rows, 1, 10, 10) and four kinds."""
    draw = drawn(seed)
    kind, at = torch.randint(4, (rows,), generator=draw), torch.randint(2, 8, (rows, 1, 1), generator=draw)
    down, across = torch.arange(10).view(10, 1), torch.arange(10).view(1, 10)
    lines = [down.expand(10, 10) == at, across.expand(10, 10) == at, down - across == at - 5, down + across == at + 4]
    line = torch.stack(lines, dim=1)[torch.arange(rows), kind].float()
    return (1.6 * line + 0.7 * torch.randn(rows, 10, 10, generator=draw)).unsqueeze(1), kind


# Short tones in noise, of five pitches and any phase.
@cache
def tones(rows: int = 600, seed: int = 203) -> tuple[Tensor, Tensor]:
    """Return waves (rows, 1, 48) and five pitches."""
    draw = drawn(seed)
    pitch = torch.randint(5, (rows,), generator=draw)
    turn = torch.arange(48) * (0.25 + 0.18 * pitch).unsqueeze(1) + 6.3 * torch.rand(rows, 1, generator=draw)
    return (turn.sin() + 0.9 * torch.randn(rows, 48, generator=draw)).unsqueeze(1), pitch


# Three arms of a spiral.
@cache
def arms(rows: int = 750, seed: int = 205) -> tuple[Tensor, Tensor]:
    """Return points (rows, 2) and three arms."""
    draw = drawn(seed)
    arm, far = torch.randint(3, (rows,), generator=draw), torch.rand(rows, generator=draw).sqrt()
    angle = 4.5 * far + 2.1 * arm + 0.25 * torch.randn(rows, generator=draw)
    return 2 * torch.stack([far * angle.cos(), far * angle.sin()], dim=1), arm


# A number from twelve columns.
@cache
def echoes(rows: int = 800, seed: int = 207) -> tuple[Tensor, Tensor]:
    """Return columns (rows, 12) and numbers (rows,)."""
    draw = drawn(seed)
    x = torch.randn(rows, 12, generator=draw)
    y = x[:, 0] * x[:, 1] + (2 * x[:, 2]).sin() + x[:, 3].abs() + 0.8 * x[:, 4] - 0.6 * x[:, 5]
    return x, (y - 0.8) / 1.7 + 0.15 * torch.randn(rows, generator=draw)


def near(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error."""
    x, y = batch
    return F.mse_loss(model(x), y)


# Counts of events whose rate depends on six columns.
@cache
def counts(rows: int = 720, seed: int = 209) -> tuple[Tensor, Tensor]:
    """Return columns (rows, 6) and counts (rows,)."""
    draw = drawn(seed)
    x = torch.randn(rows, 6, generator=draw)
    log = 0.7 + 0.6 * x[:, 0] - 0.5 * x[:, 1] + 0.6 * x[:, 2] * x[:, 3] + 0.4 * x[:, 4].sin()
    return x, torch.poisson(log.clamp(max=3.5).exp(), generator=draw)


def counted(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the Poisson likelihood's loss."""
    return F.poisson_nll_loss(model(batch[0]), batch[1], log_input=True)


# Times until failure, some of them cut off.
@cache
def lives(rows: int = 700, seed: int = 211) -> tuple[Tensor, Tensor, Tensor]:
    """Return columns (rows, 5), times, and whether the end was seen."""
    draw = drawn(seed)
    x = torch.randn(rows, 5, generator=draw)
    scale = (0.8 * x[:, 0] - 0.7 * x[:, 1] * x[:, 2] + 0.3 * x[:, 3] - 2).exp()
    time = scale * (-torch.rand(rows, generator=draw).clamp(min=1e-4).log()).pow(1 / 1.8)
    limit = 0.6 * torch.rand(rows, generator=draw) + 0.05
    return x, torch.minimum(time, limit), (time <= limit).float()


def survived(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the Weibull likelihood's loss; it may be negative."""
    x, time, seen = batch
    scale, shape = model(x).unbind(-1)
    power = F.softplus(shape + 1) + 0.1
    past = (power * (time.log() - scale)).clamp(max=20)
    return (past.exp() - seen * (power.log() + past - time.log())).mean()


# Forms with six measured fields and three chosen ones; a yes or a no.
@cache
def forms(rows: int = 640, seed: int = 213) -> dict[str, Tensor]:
    """Return number (rows, 6), choice (rows, 3) and label (rows,)."""
    draw = drawn(seed)
    number, choice = torch.randn(rows, 6, generator=draw), torch.randint(5, (rows, 3), generator=draw)
    weight = torch.tensor([-1.5, -0.5, 0.2, 0.8, 1.5])
    score = 1.3 * number[:, 0] * weight[choice[:, 0]] + number[:, 1] + weight[choice[:, 1]] - number[:, 2].abs() + 0.6
    return {
        "number": number, "choice": choice,
        "label": (score + 0.4 * torch.randn(rows, generator=draw) > 0).float(),
    }  # fmt: skip


def decided(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the binary cross-entropy."""
    return F.binary_cross_entropy_with_logits(model(batch["number"], batch["choice"]), batch["label"])


# Letters to be said backwards, each through a cipher.
def words(rows: int, draw: torch.Generator | None = None) -> dict[str, Tensor]:
    """Return source (rows, 4) and target (rows, 4) of six letters."""
    source = torch.randint(6, (rows, 4), generator=draw)
    return {"source": source, "target": (source.flip(1) * 5 + 1) % 6}


class Words:
    """Batches of new words."""

    def __init__(self, steps: int = 40, size: int = 48) -> None:
        self.steps, self.size = steps, size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (words(self.size) for _ in range(self.steps))


def spelled(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the cross-entropy of letters, each given the true ones before it."""
    logits = model(batch["source"], F.pad(batch["target"][:, :-1], (1, 0), value=6))
    return F.cross_entropy(logits.flatten(0, 1), batch["target"].flatten())


@torch.no_grad()
def misspelled(model: nn.Module) -> float:
    """Return the share of wrong letters when the model hears only itself."""
    model.eval()
    batch = words(200, drawn(215))
    said = torch.full((200, 1), 6)
    for _ in range(4):
        logits = model(batch["source"], said)[:, -1]
        said = torch.cat([said, logits.argmax(-1, keepdim=True)], dim=1)
    wrong = (said[:, 1:] != batch["target"]).float().mean().item()
    return wrong if logits.isfinite().all() else 1.0


# Noisy traces, in which pulses are to be marked.
@cache
def traces(rows: int = 400, seed: int = 217) -> tuple[Tensor, Tensor]:
    """Return traces (rows, 1, 32) and marks (rows, 1, 32)."""
    draw = drawn(seed)
    at, wide = torch.randint(3, 24, (rows, 1), generator=draw), torch.randint(4, 9, (rows, 1), generator=draw)
    place = torch.arange(32)
    mark = ((place >= at) & (place < at + wide)).float()
    drift = (0.3 * place + 6.3 * torch.rand(rows, 1, generator=draw)).sin()
    trace = mark * 1.5 * (-1.0) ** place + drift + 0.4 * torch.randn(rows, 32, generator=draw)
    return trace.unsqueeze(1), mark.unsqueeze(1)


def marked(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the binary cross-entropy of marks."""
    return F.binary_cross_entropy_with_logits(model(batch[0]), batch[1])


# Pairs of rows of the same group or of two.
@cache
def pairs(rows: int = 768, seed: int = 219) -> tuple[Tensor, Tensor, Tensor]:
    """Return two sides (rows, 10) and whether they are of one group."""
    draw, world = drawn(seed), drawn(220)
    middle, turn = torch.randn(6, 4, generator=world), torch.randn(8, 10, generator=world) / 2
    same = torch.rand(rows, generator=draw) < 0.5
    one = torch.randint(6, (rows,), generator=draw)
    other = torch.where(same, one, (one + torch.randint(1, 6, (rows,), generator=draw)) % 6)

    def seen(group: Tensor) -> Tensor:
        hidden = middle[group] + 0.5 * torch.randn(rows, 4, generator=draw)
        return torch.cat([hidden.sin(), hidden * hidden.roll(1, 1) / 2], dim=1) @ turn

    return seen(one), seen(other), same.float()


def apart(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the contrastive loss: near if same, else at least a margin away."""
    one, other, same = batch
    gap = ((model(one) - model(other)).square().sum(-1) + 1e-6).sqrt()
    return (same * gap.square() + (1 - same) * F.relu(1.5 - gap).square()).mean()


# A curve that has several answers.
@cache
def folds(rows: int = 900, seed: int = 221) -> tuple[Tensor, Tensor]:
    """Return x (rows, 1) and y (rows,), of which there are up to three to an x."""
    draw = drawn(seed)
    y = 2 * torch.rand(rows, generator=draw) - 1
    return (y + 0.5 * (4 * y).sin() + 0.05 * torch.randn(rows, generator=draw)).unsqueeze(1), y


def likely(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mixture's negative log likelihood."""
    share, middle, spread = model(batch[0])
    parts = torch.distributions.Normal(middle, spread).log_prob(batch[1].unsqueeze(-1))
    return -(share.log_softmax(-1) + parts).logsumexp(-1).mean()


# One trunk and two duties: a kind and an amount.
@cache
def jobs(rows: int = 720, seed: int = 223) -> dict[str, Tensor]:
    """Return x (rows, 10), kind (rows,) of four, and amount (rows,)."""
    draw, world = drawn(seed), drawn(224)
    kind = torch.randint(4, (rows,), generator=draw)
    x = torch.randn(4, 10, generator=world)[kind] + 0.9 * torch.randn(rows, 10, generator=draw)
    amount = (x[:, 0] * x[:, 1]).tanh() + 0.5 * x[:, 2] - 0.4 * x[:, 3].abs() + 0.1 * torch.randn(rows, generator=draw)
    return {"x": x, "kind": kind, "amount": amount}


def both(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the two losses together."""
    kind, amount = model(batch["x"])
    return F.cross_entropy(kind, batch["kind"]) + F.mse_loss(amount, batch["amount"])


# Rows of tokens that repeat themselves, with holes.
def texts(rows: int, draw: torch.Generator | None = None) -> dict[str, Tensor]:
    """Return input_ids (rows, 12) with token 12 for a hole, and labels, -100 where there is none."""
    start, stride = (torch.randint(low, high, (rows, 1), generator=draw) for low, high in ((0, 12), (1, 4)))
    text = (start + stride * torch.arange(12)) % 12
    hole = torch.rand(rows, 12, generator=draw) < 0.25
    hole[:, 0] |= ~hole.any(1)
    return {"input_ids": text.masked_fill(hole, 12), "labels": text.masked_fill(~hole, -100)}


@cache
def library(rows: int = 640) -> dict[str, Tensor]:
    """Return texts to train on."""
    return texts(rows, drawn(225))


def filled(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the cross-entropy of what was in the holes."""
    return F.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())


# Papers that cite each other.
@cache
def papers(count: int = 120, seed: int = 227) -> dict[str, Tensor]:
    """Return marks (n, 10), link (n, n), field (n,) of three, known (n,)."""
    draw = drawn(seed)
    field = torch.randint(3, (count,), generator=draw)
    chance = torch.where(field[:, None] == field, 0.14, 0.03)
    upper = (torch.rand(count, count, generator=draw) < chance).triu(1)
    marks = 0.6 * torch.randn(3, 10, generator=draw)[field] + torch.randn(count, 10, generator=draw)
    link = upper | upper.T | torch.eye(count, dtype=torch.bool)
    return {"marks": marks, "link": link, "field": field, "known": torch.rand(count, generator=draw) < 0.4}


def sorted_right(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the cross-entropy of the known papers."""
    return F.cross_entropy(model(batch["marks"], batch["link"])[batch["known"]], batch["field"][batch["known"]])


@torch.no_grad()
def unsorted(model: nn.Module) -> float:
    """Return the cross-entropy of the papers that were not known."""
    model.eval()
    batch = papers()
    other = ~batch["known"]
    return F.cross_entropy(model(batch["marks"], batch["link"])[other], batch["field"][other]).item()


# Weather of made-up stations: the next value of a series.
@cache
def series(rows: int = 640, seed: int = 229) -> tuple[Tensor, Tensor]:
    """Return windows (rows, 16, 2), a temperature and a season, and the next temperature (rows,)."""
    draw = drawn(seed)
    place = torch.arange(17) + 40 * torch.rand(rows, 1, generator=draw)
    season, noise = (0.5 * place).sin(), torch.randn(rows, 17, generator=draw)
    level, found = torch.zeros(rows), []
    for at in range(17):
        level = 0.7 * level + 0.3 * noise[:, at]
        found.append(level + season[:, at] + 0.4 * (level * 2).tanh())
    value = torch.stack(found, dim=1)
    return torch.stack([value[:, :-1], (0.5 * place[:, :-1]).cos()], dim=-1), value[:, -1]


WORLDS: dict[str, World] = {
    "bars": World(
        nets.Pictures, classed, lambda: tuples(*bars()), judged(classed, lambda: bars(400, 202)),
        rates(0.03, 0.01, 0.004), 4, "trainer",
    ),
    "tones": World(
        nets.Waves, classed, lambda: tuples(*tones(), size=24), judged(classed, lambda: tones(400, 204)),
        rates(0.03, 0.01, 0.004), 4, "epochs",
    ),
    "spiral": World(
        nets.Flow, classed, lambda: tuples(*arms(), size=30), judged(classed, lambda: arms(500, 206)),
        rates(0.1, 0.01, 0.005), 8, "steps",
    ),
    "radar": World(
        nets.Plain, near, lambda: tuples(*echoes(), size=25), judged(near, lambda: echoes(500, 208)),
        rates(0.03, 0.008, 0.004), 6, "epochs",
    ),
    "counts": World(
        nets.Rate, counted, lambda: list(zip(*(column.split(24) for column in counts()), strict=True)),
        judged(counted, lambda: counts(500, 210)), rates(0.02, 0.01, 0.005), 5, "closure",
    ),
    "lifetimes": World(
        nets.Weibull, survived, lambda: tuples(*lives(), size=35), judged(survived, lambda: lives(500, 212)),
        rates(0.03, 0.01, 0.005), 8, "steps",
    ),
    "clinic": World(
        nets.Form, decided, lambda: dicts(**forms()), judged(decided, lambda: forms(400, 214)),
        rates(0.1, 0.005, 0.002), 5, "trainer",
    ),
    "reverse": World(nets.Speller, spelled, Words, misspelled, rates(0.5, 0.01, 0.004), 4, "steps"),
    "pulses": World(
        nets.Hourglass, marked, lambda: tuples(*traces(), size=20), judged(marked, lambda: traces(200, 218)),
        rates(0.1, 0.01, 0.004), 4, "clipped",
    ),
    "twins": World(
        nets.Siamese, apart, lambda: tuples(*pairs(), size=32), judged(apart, lambda: pairs(500, 230)),
        rates(0.03, 0.005, 0.002), 5, "epochs",
    ),
    "inverse": World(
        nets.Mixture, likely, lambda: tuples(*folds(), size=45), judged(likely, lambda: folds(500, 222)),
        rates(0.03, 0.01, 0.005), 8, "clipped",
    ),
    "duties": World(
        nets.TwoHeads, both, lambda: dicts(**jobs(), size=30), judged(both, lambda: jobs(500, 225)),
        rates(0.05, 0.008, 0.004), 5, "accumulating",
    ),
    "cloze": World(
        nets.Filler, filled, lambda: dicts(**library()), judged(filled, lambda: texts(300, drawn(226))),
        rates(0.2, 0.008, 0.003), 6, "steps",
    ),
    "citations": World(
        nets.Graph, sorted_right, lambda: [papers()], unsorted, rates(0.1, 0.01, 0.004), 70, "epochs"
    ),
    "weather": World(
        nets.Forecast, near, lambda: tuples(*series(), size=32), judged(near, lambda: series(400, 230)),
        rates(0.1, 0.01, 0.005), 5, "averaged",
    ),
}  # fmt: skip


def world(run: Run) -> World:
    """Return the world of a run's case."""
    return WORLDS[run.case.family]


def made(run: Run, model: nn.Module | Iterable[Any], by: float = 1.0, **more: Any) -> Any:
    """Return the case's optimizer of a model, or of parameters, with the world's rate times by."""
    parameters = model.parameters() if isinstance(model, nn.Module) else model
    more.setdefault("lr", by * world(run).rates[run.case.optimizer])
    return run.optimizer(parameters, **more)
