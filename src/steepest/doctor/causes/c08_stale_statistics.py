"""The statistics of batch norm are not those of the data."""

import torch
from torch import nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import rows
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.norms import gap, norms

SLOW, QUICK = 0.02, 0.8
"""Momentum below which statistics are those of the start, and above which they are those of the last batch."""

CLOSED = 0.6
"""Part of the gap that statistics computed anew have to close."""


@cause(
    "C08",
    "stale-norm-statistics",
    fix="Leave BatchNorm's momentum at 0.1 (the weight of the new batch), or estimate them anew at the end.",
    when=MARK,
    weight=REPLAYED,
    masks="A17 D20",
)
def stale_statistics(lab: Lab) -> Found | None:
    """Training goes well, and in evaluation mode the model is bad.

    The momentum of a batch norm is far from any usual one. In evaluation mode the loss of training batches is much
    higher than in training mode, and is not once its statistics are computed anew.
    """
    if lab.loss is None or lab.now < 20:
        return None
    odd = [each for each in norms(lab.twin()) if each.momentum is not None and not SLOW <= each.momentum <= QUICK]
    passes = [each.of for update in lab.history.latest for each in update.backwards]
    if not odd or not passes or (rows(passes[-1].batch) or 0) < 5 or not any(each.training for each in odd):
        return None
    told = gap(lab, passes[-30:])
    if told is None:
        return None
    apart, left = told.evaluating - told.training, told.estimated - told.training
    if apart < 0.5 * abs(told.training) + 0.05 * (lab.scale or 0.0) or left > (1 - CLOSED) * apart:
        return None
    summary = (
        f"Statistics of batch norm are stale (momentum {odd[0].momentum:g}): in evaluation mode the loss is "
        f"{told.evaluating:.3g}, with statistics computed anew {told.estimated:.3g}."
    )
    evidence = {"momentum": odd[0].momentum, "loss evaluating": told.evaluating, "loss anew": told.estimated}
    return Found(summary, evidence, True)


def demo(run: Demo) -> None:
    """Momentum as another library counts it, and then some."""
    momentum = 1e-4 if run.faulty else 0.1
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=momentum), nn.ReLU(), nn.Linear(32, 3))
    x, kinds = run.classes()
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches((x * 5 + 9, kinds)))
