"""Batch norm has too few rows."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import rows
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.history import Pass
from steepest.doctor.lab import Lab
from steepest.doctor.norms import gap, norms
from steepest.doctor.replay import Change
from steepest.doctor.trial import Better, better, longer
from steepest.doctor.twin import Twin

FEW = 4
"""Rows of a batch."""

WORSE = 1.3
"""So many times higher is the loss in evaluation mode, at least."""


@cause(
    "C07",
    "norm-of-few-rows",
    fix="Use larger batches, or GroupNorm or LayerNorm, which do not depend on the batch.",
    when=MARK,
    weight=REPLAYED - 0.1,
    masks="A17 C08 D02 D15",
)
def norm_of_few(lab: Lab) -> Found | None:
    """Training is noisy, and in evaluation mode the model is worse.

    There is batch norm, and batches have four rows or fewer. A replay with a norm of each row by itself in its place
    gains more; or the same rows have a higher loss with the statistics of all than with those of their batch.
    """
    if lab.loss is None or lab.now < 20 or not norms(lab.model) or not any(each.training for each in norms(lab.twin())):
        return None
    passes: Sequence[Pass] = [each.of for update in lab.history.latest for each in update.backwards]
    sizes = [rows(of.batch) for of in passes]
    if not sizes or any(each is None or each > FEW for each in sizes):
        return None
    healed = _healed(lab) if lab.gain < 0.9 else None
    told = gap(lab, list(passes)[-60:])
    if healed is not None:
        most = max(each or 0 for each in sizes)
        summary = (
            f"Batch norm sees {most} rows at a time: with a norm of each row the loss is {healed.changed:.3g} where it "
            f"is {healed.base:.3g}."
        )
        return Found(summary, {"rows": most, **healed.evidence}, True, cure=healed.change)
    if told is None or not (told.estimated > WORSE * told.training and told.evaluating > WORSE * told.training):
        return None
    summary = (
        f"Batch norm sees {max(each or 0 for each in sizes)} rows at a time: with statistics of {len(passes[-60:])} "
        f"batches the loss of the same rows is {told.estimated:.3g} where it is {told.training:.3g}."
    )
    evidence = {"rows": max(each or 0 for each in sizes), "loss": told.training, "loss evaluating": told.evaluating}
    return Found(summary, evidence, True)


def _healed(lab: Lab) -> Better | None:
    """Return what a norm of each row gains, soon or in the end: it begins otherwise, and may be slower at first."""
    change = Change("norms of single rows", prepare=_by_rows)
    return better(lab, change, 0.05, -0.1) or longer(lab, change)


def _by_rows(twin: Twin) -> None:
    for module in norms(twin.model):
        module.register_forward_hook(_normalised)


def _normalised(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return nn.functional.group_norm(inputs[0], 1, module.weight, module.bias)


def demo(run: Demo) -> None:
    """Two rows in a batch."""
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    size = 2 if run.faulty else 32
    rows_ = itertools.islice(run.batches(run.classes(), 20, size), 250)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, rows_)
