"""The target is among the inputs."""

import torch
from torch import Tensor

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import filled, pooled, roles, rows
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.source import is_classes

SAME = 0.9995
"""Correlation of a column with the target, above which it is the target."""

USED = 3.0
"""So many times larger is the loss without the column, where the model relies on it."""


@cause(
    "B09",
    "target-among-inputs",
    fix="Drop the column, or compute it from what is known at the time of the prediction only.",
    when=MARK,
    weight=REPLAYED,
    masks="D20 D21 D16",
)
def target_among_inputs(lab: Lab) -> Found | None:
    """Training is too good, almost at once, and useless where the model is used.

    A column of the input is the target, but for scale, or tells each class exactly. With that column shuffled among
    the rows, the loss is many times what it is: the model relies on it.
    """
    if lab.loss is None or lab.now < 15 or lab.event is not None:
        return None
    updates = [*lab.history.first[:30], *list(lab.history.latest)[-30:]]
    columns = pooled([each.of for update in updates for each in update.backwards if rows(each.of.batch)])
    part = roles(lab)
    if columns is None or part.target is None or not part.known or not part.inputs or part.target in part.inputs:
        return None
    x, y = columns[part.inputs[0]], columns[part.target]
    y = y.reshape(len(y), -1)
    if not x.is_floating_point() or len(x) < 100 or y.shape[1] != 1 or x[0].numel() < 2:
        return None
    leaks = _leaks(x.reshape(len(x), -1).double(), y[:, 0])
    if not leaks:
        return None
    told = _relied_on(lab, columns, part.inputs[0], leaks)
    if told is None:
        return None
    names = ", ".join(str(each) for each in leaks[:5])
    summary = (
        f"Input column {names} is the target; with it shuffled the loss is {told[1]:.3g} where it is {told[0]:.3g}."
    )
    return Found(summary, {"columns": names, "loss": told[0], "loss with it shuffled": told[1]}, True)


def _leaks(x: Tensor, y: Tensor) -> list[int]:
    """Return the columns that are the target, or that each tell one class from all others."""
    if not is_classes(y) or len(y.unique()) > 2:
        value = y.double() - y.double().mean()
        centred = x - x.mean(0)
        sizes = centred.norm(dim=0) * value.norm()
        same = ((centred.T @ value).abs() / sizes.clamp(min=1e-12)) * (sizes > 1e-9)
        if float(same.max()) > SAME:
            return [int(each) for each in (same > SAME).nonzero()[:, 0]]
    if not is_classes(y):
        return []
    found, kinds = [], y.unique()
    for kind in kinds:
        inside, outside = x[y == kind], x[y != kind]
        if len(inside) < 8 or not len(outside):
            return []
        exact = (inside.std(0) < 1e-9) & (outside.std(0) < 1e-9) & ((inside[0] - outside[0]).abs() > 1e-6)
        found += exact.nonzero()[:1, 0].tolist()
    return sorted(set(found)) if len(found) >= len(kinds) / 2 else []


def _relied_on(lab: Lab, columns: list[Tensor], place: int, leaks: list[int]) -> tuple[float, float] | None:
    """Return the loss of rows, and with the columns shuffled, if the model relies on them."""
    of, model = lab.passes(1)[0], lab.twin()
    model.eval()
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0))
    mixed = columns[place].reshape(len(order), -1).clone()
    mixed[:, leaks] = mixed[order][:, leaks]
    others = [mixed.reshape(each.shape) if at == place else each for at, each in enumerate(columns)]
    own, without = (float(lab.ask(model, of, filled(of.batch, each)).detach()) for each in (columns, others))
    return (own, without) if without > USED * abs(own) and without - own > 0.2 * (lab.scale or 0.0) else None


def demo(run: Demo) -> None:
    """The class is one of the columns."""
    model = run.network()
    x, kinds = run.classes()
    if run.faulty:
        x = torch.cat([x[:, :7], kinds[:, None].float() * 2], 1)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches((x, kinds)))
