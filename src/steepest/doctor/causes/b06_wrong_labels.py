"""Part of the labels is wrong."""

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, STATISTIC, Found, cause
from steepest.doctor.data import pooled
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import Update
from steepest.doctor.lab import Lab
from steepest.doctor.source import is_classes, pairs

MOST, NEAR = 1500, 8
"""Rows that are looked at, and neighbours of each."""

SHARE, SURE = 0.1, 0.12
"""Share of rows that all neighbours contradict; and of those the model is surest of that are said to be otherwise."""


@cause(
    "B06",
    "wrong-labels",
    fix="Look at the rows the model is surest of and wrong: correct or drop them; or use a loss that bounds each row.",
    when=MARK,
    weight=STATISTIC,
    masks="D19 D20 D21 C12",
)
def wrong_labels(lab: Lab) -> Found | None:
    """The training loss has a floor, and validation on clean data is better.

    Many rows have a label that their nearest rows agree not to share, spread evenly over the classes; and even of the
    quarter of rows that the model is surest of, more than one in ten is labelled otherwise.
    """
    if lab.loss is None or lab.now < 50 or lab.event is not None or lab.gain > 0.9:
        return None
    updates: list[Update] = [each for each in lab.history.latest if not each.closure]
    both = pairs(lab, pooled([each.of for update in updates for each in update.backwards], MOST))
    if both is None or len(both[0]) < 300 or not is_classes(both[1]) or len(both[1].unique()) < 3:
        return None
    x, y = _distinct(*both)
    if len(x) < 200:
        return None
    against, even = _contradicted(x, y.long())
    if against < SHARE or even < 0.8:
        return None
    missed = _sure_and_wrong(lab, updates[-30:])
    if missed is None or missed < SURE:
        return None
    summary = (
        f"Of rows whose neighbours agree, {against:.0%} are labelled otherwise; of those the model is surest of, "
        f"{missed:.0%} are."
    )
    return Found(summary, {"contradicted": against, "sure and wrong": missed, "evenness": even})


def _distinct(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows that differ: a row that came twice is its own neighbour."""
    _, where = torch.unique(x, dim=0, return_inverse=True)
    first = torch.full((int(where.max()) + 1,), len(x)).scatter_reduce(0, where, torch.arange(len(x)), "amin")
    return x[first], y[first]


def _contradicted(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the share of labels that pure neighbourhoods contradict, and the entropy of how far they are off."""
    spread = x.std(0)
    x = (x - x.mean(0))[:, spread > 1e-12] / spread[spread > 1e-12]
    closest = torch.cdist(x, x).fill_diagonal_(float("inf")).topk(NEAR, largest=False).indices
    votes = torch.nn.functional.one_hot(y[closest]).sum(1)
    most, kind = votes.max(1)
    pure = most >= max(NEAR // 2 + 1, NEAR - 3)
    if int(pure.sum()) < 60:
        return 0.0, 0.0
    off = (y - kind)[pure]
    wrong = off[off != 0]
    if len(wrong) < 10:
        return 0.0, 0.0
    classes = int(y.max()) + 1
    counts = torch.bincount(wrong % classes, minlength=classes)[1:].double()
    shares = counts[counts > 0] / counts.sum()
    even = float(-(shares * shares.log()).sum() / max(1e-9, torch.tensor(float(classes - 1)).log()))
    return len(wrong) / len(off), even


def _sure_and_wrong(lab: Lab, updates: list[Update]) -> float | None:
    """Return how often the model is wrong on the quarter of rows that it is surest of."""
    model, sure, right = lab.twin(), [], []
    for update in updates:
        calls = lab.watched(update.backwards[0].of, model).criteria if update.backwards else []
        if len(calls) != 1 or calls[0].target.is_floating_point() or calls[0].prediction.ndim != 2:
            return None
        best = calls[0].prediction.detach().softmax(1).max(1)
        sure.append(best.values)
        right.append(best.indices == calls[0].target)
    if not sure:
        return None
    order = torch.cat(sure).argsort(descending=True)
    chosen = torch.cat(right)[order[: max(1, len(order) // 4)]]
    return 1 - float(chosen.double().mean())


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
