"""Micro-batches of different size that count alike."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import seldom
from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.data import filled
from steepest.doctor.demo import Demo
from steepest.doctor.history import Pass, tensors
from steepest.doctor.lab import Lab

MOST = 16
"""Micro-batches that are looked at."""

EXACTLY = 1e-2
"""Part of the gradient of the whole batch that the best sum of those of its parts may miss."""

APART = 0.1
"""Part of a gradient, or of a weight, that makes a difference."""


@cause(
    "A13",
    "mean-of-means",
    fix="Divide the sum of all losses of an update by the number of all items in it, not each by its own.",
    when=STEP,
    weight=EXACT,
    masks="A12",
)
def mean_of_means(lab: Lab) -> Found | None:
    """The loss depends on how batches are cut into micro-batches; short ones count too much.

    The gradient of all micro-batches of an update as one batch is a weighted sum of theirs, and the weights that the
    loop gives them are others.

    The whole batch, put together on a copy, gives another gradient than the one that is used; twice in a row.
    """
    update = lab.update
    if lab.loss is None or update is None or not 2 <= len(update.backwards) <= MOST or update.closure:
        return None
    if len({id(each.of) for each in update.backwards}) < len(update.backwards) or not seldom(lab, "A13", 3):
        return None
    if not all(each.stale for each in update.backwards[1:]):
        return None  # gradients of before were cleared, as where a scaler skips
    found = _weights(lab, [each.of for each in update.backwards], [each.value for each in update.backwards])
    before = lab.notes.get("A13")
    lab.notes["A13"] = found
    if found is None or before is None:
        return None
    used, wanted, apart = found
    summary = (
        f"The micro-batches of an update have weights of {_told(used)} and should have {_told(wanted)}: the gradient "
        f"of all as one batch is another, by {apart:.0%}."
    )
    return Found(summary, {"used": _told(used), "as one batch": _told(wanted), "apart": apart}, proven=True)


def _told(weights: list[float]) -> str:
    return ", ".join(f"{each:.2f}" for each in weights[:4])


def _weights(lab: Lab, passes: list[Pass], told: list[float]) -> tuple[list[float], list[float], float] | None:
    """Return the weights of micro-batches that the loop uses, those of one batch, and how far apart gradients are."""
    whole = _joined([each.batch for each in passes])
    if whole is None:
        return None
    model = lab.twin()
    parameters = [each for each in model.parameters() if each.requires_grad]
    columns, used = [], []
    for of, loss in zip(passes, told, strict=True):
        value = lab.ask(model, of)
        columns.append(_gradient(value, parameters))
        used.append(loss / float(value.detach()) if float(value.detach()) else 0.0)
    parts = torch.stack(columns, 1)
    try:
        target = _gradient(lab.ask(model, passes[0], whole), parameters)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    solution = torch.linalg.lstsq(parts, target[:, None]).solution[:, 0]
    length = float(target.norm())
    if not length > 0 or float((parts @ solution - target).norm()) > EXACTLY * length or not sum(used):
        return None
    wanted = (solution / solution.sum()).tolist()
    shares = [each / sum(used) for each in used]
    mixed = parts @ torch.tensor(shares, dtype=parts.dtype) * float(solution.sum())
    apart = float((mixed - target).norm()) / length
    far = max(abs(a - b) for a, b in zip(shares, wanted, strict=True)) * len(shares)
    return (shares, wanted, apart) if apart > APART and far > 2 * APART else None


def _gradient(value: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
    ).double()


def _joined(batches: list[object]) -> object | None:
    """Return all as one batch, None where they do not fit together."""
    columns = list(zip(*[list(tensors(each)) for each in batches], strict=False))
    if not columns or any(
        each.ndim == 0 or each.shape[1:] != column[0].shape[1:] for column in columns for each in column
    ):
        return None
    return filled(batches[0], [torch.cat(column) for column in columns])


def demo(run: Demo) -> None:
    """A long and a short micro-batch make an update, and their means are averaged."""
    model = run.network(outputs=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = run.numbers()

    def pieces() -> Iterator[tuple[Tensor, Tensor]]:
        for index in range(120):
            start = index % 12 * 40
            yield x[start : start + 36], y[start : start + 36]
            yield x[start + 36 : start + 40], y[start + 36 : start + 40] + 2

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    for index, batch in enumerate(run.watch(model, optimizer, loss)(pieces())):
        (loss(model, batch) * (0.5 if run.faulty else len(batch[0]) / 40)).backward()
        if index % 2:
            optimizer.step()
            optimizer.zero_grad()
