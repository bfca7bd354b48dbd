"""Rows come in an order that says what they are."""

import itertools

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import filled, pooled, roles
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import Update, tensors
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change, Replayed
from steepest.doctor.source import is_classes

APART, INPUTS, BY = 8.0, 20.0, 0.1
"""Variance between batches over that of random ones: of targets, and of inputs, which a batch may change as a whole.
Part of the scale that shuffling has to gain."""


@cause(
    "B04",
    "sorted-rows",
    fix="Shuffle: DataLoader(..., shuffle=True), or permute the rows once before they are cut into batches.",
    when=MARK,
    weight=REPLAYED,
    masks="B05 B06 B08 C D",
)
def sorted_rows(lab: Lab) -> Found | None:
    """The loss goes up and down like a saw, and what was learned is forgotten again.

    Batches differ from each other many times more than random ones of the same rows would, in the target or where
    there is none in the input. A replay with the same rows shuffled across batches has a lower loss on mixed rows
    than the replay without, and than the model has now.
    """
    updates = _window(lab)
    passes = [each.of for update in updates for each in update.backwards]
    rows = pooled(passes, 20000) if lab.loss is not None and len(passes) >= 12 else None
    if rows is None or len(rows[0]) < 10 * len(passes[:1]) or len(rows[0]) < 3 * len(passes):
        return None
    part = roles(lab)
    column = rows[part.target if part.target is not None else 0]
    apart = _apart(column, max(2, len(rows[0]) // len(passes)))
    if apart < (INPUTS if part.target is None else APART):
        return None
    told = _trial(lab, rows, apart)
    if told is None or lab.scale is None:
        return None
    base, shuffled, now = told
    if not (base - shuffled >= BY * lab.scale and now - shuffled >= BY / 2 * lab.scale):
        return None
    summary = (
        f"Rows are not shuffled: batches differ {apart:.0f} times more than random ones would; with the same rows "
        f"shuffled the loss of mixed rows is {shuffled:.3g} where it is {base:.3g}."
    )
    return Found(summary, {"between batches": apart, "loss as it was": base, "loss shuffled": shuffled}, True)


def _window(lab: Lab) -> list[Update]:
    """Return the updates that are looked at: the first ones, or the latest where only those are in order."""
    return [each for each in lab.history.first if each.backwards and not each.closure]


def _apart(column: Tensor, size: int) -> float:
    """Return the variance of batch means over what it would be if rows were drawn at random."""
    value = column.detach().reshape(len(column), -1)
    if not value.is_floating_point() and value.shape[1] == 1 and is_classes(value[:, 0]):
        value = torch.nn.functional.one_hot(value[:, 0] - value.min())
    elif not value.is_floating_point():
        value = torch.stack([(value == each).sum(1) for each in value.unique()[:64]], 1)
    value = value.double()
    means = torch.stack([some.mean(0) for some in value.split(size) if len(some) == size])
    return float(means.var(0).sum() / (value.var(0).sum() / size + 1e-30))


def _trial(lab: Lab, rows: list[Tensor], apart: float) -> tuple[float, float, float] | None:
    """Return the loss of mixed rows after a replay, after one with rows shuffled, and of the model now."""
    order = torch.randperm(len(rows[0]), generator=torch.Generator().manual_seed(0))
    mixed = [each[order] for each in rows]
    places = itertools.cycle(range(len(order)))

    def draw(batch: object) -> object:
        size = len(next(tensors(batch)))
        some = [next(places) for _ in range(size)]
        return filled(batch, [each[some] for each in mixed])

    if not lab.licence():
        return None
    base, fork = lab.replay(), lab.replay(Change("rows shuffled across batches", batch=draw))
    if base is None or fork is None or not fork.finite:
        return None
    return _probe(lab, base, mixed), _probe(lab, fork, mixed), _probe(lab, None, mixed)


def _probe(lab: Lab, replayed: Replayed | None, mixed: list[Tensor]) -> float:
    model = lab.twin() if replayed is None else replayed.twin.model
    of = lab.passes(1)[0]
    size = len(next(tensors(of.batch)))
    starts = range(0, min(len(mixed[0]) - size, 8 * size) + 1, size)
    batches = [filled(of.batch, [each[at : at + size] for each in mixed]) for at in starts]
    losses = [float(lab.ask(model, of, batch).detach()) for batch in batches]
    value = sum(losses) / len(losses)
    return value if value == value else float("inf")


def demo(run: Demo) -> None:
    """Rows lie class by class."""
    model = run.network()
    x, kinds = run.classes()
    order = kinds.argsort() if run.faulty else torch.arange(len(kinds))
    rows = run.batches((x[order], kinds[order]), 5, shuffle=not run.faulty)
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), entropy, rows)
