"""All units of a layer begin alike, and stay so."""

import torch
from torch import nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import starting
from steepest.doctor.redrawn import redrawn, rescaled
from steepest.doctor.trial import heals


@cause(
    "C01",
    "units-begin-alike",
    fix="Draw the weights at random (kaiming_uniform_, xavier_uniform_); only the last layer of a branch may be zero.",
    when=MARK,
    weight=REPLAYED + 0.1,
    masks="C02 C03 C05 C06 C11 C12 D A18",
)
def units_alike(lab: Lab) -> Found | None:
    """The loss falls a little and stays there, or not at all.

    At the start all rows of a weight matrix were the same, and they still nearly are: its units compute, and learn, the
    same. Where they have come apart, as zeros at the end of a branch or of an adapter do, nothing is wrong, unless all
    matrices of the model were such. A replay with these weights drawn at random gains more.
    """
    if lab.loss is None or (lab.gain > 0.9 and not lab.bottomless):
        return None
    start = starting(lab)
    same = [] if start is None else start.same if _all(lab, start.same) else [n for n in start.same if _still(lab, n)]
    if not same:
        return None
    told = heals(lab, rescaled(lab), redrawn())
    if told is None:
        return None
    names = ", ".join(same[:3])
    summary = (
        f"All rows of {names} were alike at the start; with random ones the loss is {told.changed:.3g} where it is "
        f"{told.base:.3g}."
    )
    return Found(summary, {"tensors": names, **told.evidence}, True)


STILL = 0.1
"""Rows whose distance from their mean is a smaller part of them are still alike."""


def _all(lab: Lab, same: list[str]) -> bool:
    """Return whether all matrices, of two rows or more and two columns, were such at the start."""
    assert lab.start is not None
    matrices = [(name, each) for name, each in lab.start.model.named_parameters() if each.ndim > 1 and each.numel() > 3]
    return {name for name, each in matrices if len(each) > 1 and each.numel() > len(each)} == set(same)


def _still(lab: Lab, name: str) -> bool:
    weight = dict(lab.model.named_parameters()).get(name)
    if weight is None:
        return False
    rows = weight.detach().flatten(1)
    return bool((rows - rows.mean(0)).norm() <= STILL * rows.norm())


def demo(run: Demo) -> None:
    """Constant weights."""
    model = run.network()
    for layer in model:
        if run.faulty and isinstance(layer, nn.Linear):
            nn.init.constant_(layer.weight, 0.1)
            nn.init.zeros_(layer.bias)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes()))
