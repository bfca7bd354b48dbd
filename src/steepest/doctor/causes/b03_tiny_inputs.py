"""Inputs were normalised twice, or with the numbers of other data."""

import torch

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.data import Entry, entries, standardised
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.trial import heals

SMALL = 0.15
"""Deviation of half of the columns, below which it is tried."""


@cause(
    "B03",
    "tiny-inputs",
    fix="Normalise once, with mean and deviation of these data: the input should have deviation 1.",
    when=MARK,
    weight=REPLAYED,
    masks="C01 C02 C03 C05 C06 C11 C12 D",
)
def tiny_inputs(lab: Lab) -> Found | None:
    """Training is slow, and the result poor.

    What enters the first layer, which is no norm, hardly varies: most columns have a deviation far below 1. A replay
    of the first steps with each column at mean 0 and deviation 1 gains more.
    """
    if lab.loss is None or lab.gain > 0.9:
        return None
    small = [each for each in entries(lab) if not each.normalised and _is_small(each)]
    told = heals(lab, standardised(small)) if small else None
    if told is None:
        return None
    typical = float(small[0].deviation.median())
    summary = (
        f"Inputs hardly vary: their columns have a deviation of {typical:.2g}; with standardised ones the loss is "
        f"{told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, {"deviation": typical, **told.evidence}, True)


def _is_small(entry: Entry) -> bool:
    real = entry.deviation[entry.deviation > 1e-9]
    return len(real) > 0 and float(real.median()) < SMALL and float(entry.deviation.max()) < 30


def demo(run: Demo) -> None:
    """Inputs are divided by their range by the reader, and again by the transform."""
    model = run.network()
    x, kinds = run.classes()
    data = (x / 255 if run.faulty else x), kinds
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), entropy, run.batches(data))
