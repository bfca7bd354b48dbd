"""A class is so rare that it is never predicted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import filled, pooled, roles, rows
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.source import is_classes

MOST, LEAST = 0.8, 3
"""Share of the commonest class, from which on it is looked at; rows of a class that say anything."""

BETTER = 0.15
"""What balanced batches have to gain in the mean accuracy of classes."""


@cause(
    "B08",
    "rare-class-ignored",
    fix="Weight the classes in the loss, or draw rows so that classes are even (WeightedRandomSampler).",
    when=MARK,
    weight=REPLAYED,
    masks="B06 D",
)
def rare_class(lab: Lab) -> Found | None:
    """Accuracy is high at once, and nothing is ever said to be of the rare class.

    Most rows are of one class, and the model says of hardly any that they are of another. A replay with batches in
    which all classes are as frequent finds the rare ones.
    """
    if lab.loss is None or lab.now < 30 or lab.event is not None:
        return None
    both = _labelled(lab)
    if both is None:
        return None
    columns, y = both
    counts = torch.bincount(y.long() - int(y.min()))
    shares = counts / counts.sum()
    if float(shares.max()) < MOST or int((counts >= LEAST).sum()) < 2:
        return None
    now = _recall(lab, lab.twin(), columns, y)
    if now is None or now > 0.75 or not lab.licence():
        return None
    fork = lab.replay(Change("classes as frequent as each other", batch=_balanced(lab, columns, y)))
    told = _recall(lab, fork.twin.model, columns, y) if fork is not None and fork.finite else None
    if told is None or told - now < BETTER:
        return None
    summary = (
        f"{float(shares.max()):.0%} of all rows are of one class, and rows of the others are hardly ever recognised: "
        f"the mean accuracy of classes is {now:.0%}, after a replay with even batches {told:.0%}."
    )
    return Found(summary, {"commonest": float(shares.max()), "accuracy": now, "with even batches": told}, True)


def _labelled(lab: Lab) -> tuple[list[Tensor], Tensor] | None:
    """Return the rows of the first and latest batches, and their classes."""
    updates = [*lab.history.first[:40], *list(lab.history.latest)[-40:]]
    columns = pooled([each.of for update in updates for each in update.backwards if rows(each.of.batch)], 3000)
    part = roles(lab)
    if columns is None or part.target is None or not part.known or not part.inputs:
        return None
    y = columns[part.target]
    y = y.reshape(-1) if y.numel() == len(y) else y
    return (columns, y) if y.ndim == 1 and len(y) >= 200 and is_classes(y) else None


def _recall(lab: Lab, model: nn.Module, columns: list[Tensor], y: Tensor) -> float | None:
    """Return the mean over classes of the share of their rows that is recognised."""
    of = lab.passes(1)[0]
    model.eval()
    calls = lab.watched(replace(of, batch=filled(of.batch, columns)), model).criteria
    if len(calls) != 1 or len(calls[0].inputs) != 2:
        return None
    made = calls[0].prediction.detach()
    if made.ndim == 2 and made.shape[1] > 1 and not calls[0].target.is_floating_point():
        said = made.argmax(1)
    elif made.numel() == len(y):
        said = (made.reshape(-1) > (0.0 if "logits" in calls[0].name else 0.5)).to(y)
    else:
        return None
    if len(said) != len(y):
        return None
    kinds = [kind for kind in y.unique() if int((y == kind).sum()) >= LEAST]
    return sum(float((said[y == kind] == kind).double().mean()) for kind in kinds) / len(kinds)


def _balanced(lab: Lab, columns: list[Tensor], y: Tensor) -> Callable[[Any], Any]:
    draw = torch.Generator().manual_seed(0)
    counts = torch.bincount(y.long() - int(y.min())).double()
    weights = (1 / counts.clamp(min=1))[y.long() - int(y.min())]

    def change(batch: Any) -> Any:
        some = torch.multinomial(weights, len(next(tensors(batch))), True, generator=draw)
        return filled(batch, [each[some] for each in columns])

    return change


def demo(run: Demo) -> None:
    """Two rows in a hundred are of the second class."""
    model = run.network(8, 2)
    draw = torch.Generator().manual_seed(6)
    kinds = (torch.rand(1500, generator=draw) < (0.03 if run.faulty else 0.5)).long()
    x = torch.randn(1500, 8, generator=draw) + 1.2 * kinds[:, None] * torch.tensor([1.0, -1, 1, 0, 0, 0, 0, 0])
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.05), entropy, run.batches((x, kinds), 3))
