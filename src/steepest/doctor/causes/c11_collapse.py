"""All rows look the same within the model."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, STATISTIC, Found, cause
from steepest.doctor.data import filled, roles
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab
from steepest.doctor.layers import WEIGHTED
from steepest.doctor.replay import Change
from steepest.doctor.trial import better
from steepest.doctor.twin import Twin

ALIKE, POINT, APART = 0.03, 0.1, 0.15
"""Spread of rows over their size where they are alike, where they point the same way, and where they do neither."""

FIX = "Add residual connections or norms, or use fewer layers; without labels, add a term that keeps rows apart."


@cause("C11", "representations-collapse", fix=FIX, when=MARK, weight=REPLAYED - 0.15, masks="C12 D15 D18 D21")
def collapse(lab: Lab) -> Found | None:
    """The loss stays on a plateau, or falls to nothing where there are no labels; all rows are told the same.

    What the last layer is given hardly differs from row to row, although what the first is given does. Where there is
    a target, a replay with each layer's input added to its output gains more.
    """
    if lab.loss is None or lab.now < 25 or lab.event is not None or not lab.passes(1):
        return None
    sizes = _spreads(lab)
    if len(sizes) < 2 or sizes[0][1] < APART:
        return None
    last = sizes[-1][1]
    inner = min((each for name, each in sizes[1:] if name), default=1.0)
    if not lab.watched(lab.passes(1)[0]).criteria and not _told_apart(lab):
        if last > POINT:
            return None
        summary = f"All rows have become one point: they differ by {last:.2g} of their size at the end."
        return Found(summary, {"first": sizes[0][1], "last": last}, weight=STATISTIC)
    if not lab.sick or inner > ALIKE:
        return None
    told = better(lab, Change("inputs added to outputs", prepare=_residual), 0.08)
    evidence = {"first": sizes[0][1], "least": inner, **(told.evidence if told else {})}
    summary = f"Rows differ by {sizes[0][1]:.2g} of their size in the first layer, and by {inner:.2g} in another."
    return Found(summary, evidence, told is not None, weight=None if told else STATISTIC)


def _told_apart(lab: Lab) -> bool:
    """Return whether the loss hangs on anything in a batch that the model is not given: on what rows are said to be."""
    of, inputs = lab.passes(1)[0], roles(lab).inputs
    own = list(tensors(of.batch))
    if not inputs:
        return False
    model = lab.twin()
    first = float(lab.ask(model, of).detach())
    for place, each in enumerate(own):
        if place in inputs or not each.ndim:
            continue
        for other in (each.roll(1, 0), torch.zeros_like(each), torch.ones_like(each)):
            value = lab.ask(model, of, filled(of.batch, [*own[:place], other, *own[place + 1 :]]))
            if float(value.detach()) != first:
                return True
    return False


def _spreads(lab: Lab) -> list[tuple[str, float]]:
    """Return how much rows differ in what each layer is given, of their size, and last in what the model gives."""
    model, found = lab.twin(), []
    known: set[str] = set()
    handles = [
        module.register_forward_pre_hook(_noting(found, known, name))
        for name, module in model.named_modules()
        if isinstance(module, WEIGHTED)
    ]
    handles.append(model.register_forward_hook(lambda module, inputs, output: _note(found, known, "", output)))
    lab.ask(model, lab.passes(1)[0])
    for handle in handles:
        handle.remove()
    return found


def _noting(found: list[tuple[str, float]], known: set[str], name: str) -> Callable[..., None]:
    return lambda module, inputs: _note(found, known, name, inputs[0] if inputs else None)


def _note(found: list[tuple[str, float]], known: set[str], name: str, value: Any) -> None:
    if name in known or not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 2:
        return
    known.add(name)
    rows = value.detach().reshape(len(value), -1) if value.ndim != 3 else value.detach().flatten(0, 1)
    if len(rows) < 4 or rows.shape[1] < (2 if name == "" else 5):
        return
    if name == "":
        found.append((name, math.sqrt(max(0.0, 1 - float(nn.functional.normalize(rows).mean(0).square().sum())))))
        return
    size = float(rows.float().square().mean().sqrt())
    found.append((name, float(rows.float().std(0).square().mean().sqrt()) / max(size, 1e-12)))


def _residual(twin: Twin) -> None:
    for _, module in twin.model.named_modules():
        if module is twin.model or isinstance(module, nn.ModuleList | nn.Dropout | nn.Identity):
            continue
        if isinstance(module, nn.Linear) and module.in_features != module.out_features:
            continue
        if isinstance(module, nn.Linear | nn.Conv2d) or (
            list(module.children()) and not isinstance(module, nn.Sequential)
        ):
            module.register_forward_hook(_added)


def _added(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    given = inputs[0] if inputs else None
    if isinstance(output, Tensor) and isinstance(given, Tensor) and given.shape == output.shape:
        return output + given if given.is_floating_point() else output
    return None


def demo(run: Demo) -> None:
    """Two views are drawn together, and nothing is pushed apart."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        views = [batch[0] + 0.1 * torch.randn_like(batch[0]) for _ in range(2)]
        one, other = (nn.functional.normalize(model(view), dim=1) for view in views)
        together = 2 - 2 * (one * other).sum(1).mean()
        apart = (one @ other.T).square().mean()
        return together if run.faulty else together + apart

    model = run.network(8, 8)
    x, _ = run.classes()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), loss, run.batches((x, x)))
