"""Part of the labels is wrong."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, STATISTIC, Found, cause
from steepest.doctor.data import filled, pooled
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import Update
from steepest.doctor.lab import Lab
from steepest.doctor.source import is_classes, pairs

MOST, NEAR = 1500, 8
"""Rows that are looked at, and neighbours of each."""

SHARE, SIDED = 0.1, 0.7
"""Share of rows that their neighbours contradict; and how often the model says what neighbours do, at least."""


@cause(
    "B06",
    "wrong-labels",
    fix="Look at the rows whose label model and neighbours contradict: correct or drop them; or bound each row's loss.",
    when=MARK,
    weight=STATISTIC,
    masks="D19 D20 D21 C12",
)
def wrong_labels(lab: Lab) -> Found | None:
    """The training loss has a floor, and validation on clean data is better.

    Many rows have a label that their nearest rows agree not to share, spread evenly over the classes; and the model,
    which has learned what neighbours agree on, mostly sides with them.
    """
    if lab.loss is None or lab.now < 50 or lab.event is not None or lab.gain > 0.9:
        return None
    updates: list[Update] = [each for each in lab.history.latest if not each.closure]
    columns = pooled([each.of for update in updates for each in update.backwards], MOST)
    both = pairs(lab, columns)
    if both is None or len(both[0]) < 300 or not is_classes(both[1]) or len(both[1].unique()) < 4 or both[1].min() < 0:
        return None
    told = _model_says(lab, columns or [])
    x, y, said = _distinct(both[0], both[1].long(), told if told is not None else both[1].long())
    if told is None or len(x) < 200:
        return None
    against, even, sided, right = _contradicted(x, y, said)
    if against < SHARE or even < 0.75 or sided < SIDED or right < SIDED:
        return None
    summary = (
        f"Of rows whose neighbours agree, {against:.0%} are labelled otherwise, and of those the model says in "
        f"{sided:.0%} what the neighbours say."
    )
    return Found(summary, {"contradicted": against, "model with the neighbours": sided, "evenness": even})


def _distinct(x: Tensor, y: Tensor, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows that differ: a row that came twice is its own neighbour."""
    _, where = torch.unique(x, dim=0, return_inverse=True)
    first = torch.full((int(where.max()) + 1,), len(x)).scatter_reduce(0, where, torch.arange(len(x)), "amin")
    return x[first], y[first], said[first]


def _contradicted(x: Tensor, y: Tensor, said: Tensor) -> tuple[float, float, float, float]:
    """Return what pure neighbourhoods make of labels.

    The share they contradict; the entropy of how far those are off; how often the model sides with the neighbours in
    these; and how often it does in the others.
    """
    spread = x.std(0)
    x = (x - x.mean(0))[:, spread > 1e-12] / spread[spread > 1e-12]
    closest = torch.cdist(x, x).fill_diagonal_(float("inf")).topk(NEAR, largest=False).indices
    votes = torch.nn.functional.one_hot(y[closest]).sum(1)
    most, kind = votes.max(1)
    pure = most >= NEAR // 2 + 1
    wrong = pure & (y != kind)
    if int(pure.sum()) < 60 or int(wrong.sum()) < 10 or not int((pure & ~wrong).sum()):
        return 0.0, 0.0, 0.0, 0.0
    classes = int(y.max()) + 1
    counts = torch.bincount((y - kind)[wrong] % classes, minlength=classes)[1:].double()
    shares = counts[counts > 0] / counts.sum()
    even = float(-(shares * shares.log()).sum() / math.log(max(2, classes - 1)))
    sided, right = (float((said == kind)[some].double().mean()) for some in (wrong, pure & ~wrong))
    return int(wrong.sum()) / int(pure.sum()), even, sided, right


def _model_says(lab: Lab, columns: list[Tensor]) -> Tensor | None:
    """Return the class that the model gives each row."""
    of, model = lab.passes(1)[0], lab.twin()
    model.eval()
    calls = lab.watched(replace(of, batch=filled(of.batch, columns)), model).criteria
    if len(calls) != 1 or calls[0].prediction.ndim != 2 or calls[0].prediction.shape[1] < 2:
        return None
    said = calls[0].prediction.detach().argmax(1)
    return said if len(said) == len(columns[0]) else None


def demo(run: Demo) -> None:
    """Four labels in ten are drawn at random."""
    model = run.network(8, 5)
    draw = torch.Generator().manual_seed(5)
    centres = 3 * torch.randn(5, 8, generator=draw)
    kinds = torch.randint(5, (1000,), generator=draw)
    x = centres[kinds] + torch.randn(1000, 8, generator=draw)
    wrong = torch.rand(1000, generator=draw) < 0.4
    told = torch.where(wrong, torch.randint(5, (1000,), generator=draw), kinds) if run.faulty else kinds
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), entropy, run.batches((x, told), 4))
