"""What watching costs: steps of about one and five milliseconds, watched and unwatched in turn, one thread."""

from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import torch
from pilot.table import Table
from torch import Tensor, nn

from faults.doctors import doctor
from faults.families.scores import squared
from faults.harness import prepare

WIDTHS = {"1 ms": 160, "5 ms": 384}
"""About how long a step takes -> how wide the model is."""

ROUNDS, STEPS = 3, 400


class Cost(NamedTuple):
    """Of a run: the median step, from batch to batch, and the whole, with the reading of findings; in seconds."""

    step: float
    whole: float


def batches(steps: int, draw: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows that are drawn anew, with a target that can be learned."""
    for _ in range(steps):
        x = torch.randn(64, 64, generator=draw)
        yield x, x[:, :1] * x[:, 1:2]


def once(name: str, wide: int, steps: int) -> Cost:
    """Train under the doctor of that name, and say how long it took."""
    prepare(0)
    model = nn.Sequential(
        nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(),
        nn.Linear(wide, 1),
    )  # fmt: skip
    optimizer: Any = torch.optim.Adam(model.parameters(), lr=1e-3)
    began, marks = perf_counter(), []
    watching = doctor(name, 0)(model, optimizer, loss=squared)
    for batch in watching(batches(steps, torch.Generator().manual_seed(0))):
        marks.append(perf_counter())
        optimizer.zero_grad()
        squared(model, batch).backward()
        optimizer.step()
    list(watching.findings)
    ended = perf_counter()
    getattr(watching, "close", lambda: None)()
    return Cost(median(after - before for before, after in pairwise(marks)), ended - began)


def table(name: str, steps: int = STEPS, rounds: int = ROUNDS) -> Table:
    """Return what a doctor adds; of the rounds, the ones that took least."""
    once("none", 32, 20)
    once(name, 32, 20)
    rows = []
    for about, wide in WIDTHS.items():
        made = {who: [once(who, wide, steps) for _ in range(rounds)] for who in ("none", name)}
        alone, watched = (Cost(*map(min, zip(*costs, strict=True))) for costs in made.values())
        rows.append(
            [about, f"{1e3 * alone.step:.2f} ms", f"{watched.step / alone.step - 1:+.1%}",
             f"{watched.whole - alone.whole:+.2f} s"]
        )  # fmt: skip
    note = f"{steps} steps of Adam on a perceptron. The goal for the median step: 10 % at 1 ms, 3 % at 5 ms."
    return Table(f"What {name} costs", ["about", "median step", "median step, watched", "whole run"], rows, note)
