"""The signal fades from layer to layer."""

from itertools import pairwise

import torch
from torch import nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, Rows, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import Start, starting
from steepest.doctor.redrawn import is_smaller, redrawn, rescaled
from steepest.doctor.trial import heals

FADED, SMALL = 0.05, 0.25
"""Spread of a layer's output over that of the first, and gain of weights, below which it is tried."""


@cause(
    "C03",
    "signal-vanishes",
    fix="Draw weights with deviation sqrt(2 / inputs) (kaiming), or add norms or residual connections.",
    when=MARK,
    weight=REPLAYED,
    masks="A18 C05 C11 C12 D",
)
def signal_vanishes(lab: Lab) -> Found | None:
    """The loss is flat at first, and the first layers hardly move.

    At the start each layer gave numbers that differ less from row to row than the layer before, or the gradient of the
    first weights is far smaller than that of the last ones. A replay from weights that are scaled so that each layer
    gives numbers of size 1, or that are as torch draws them, gains more; where training goes well, but the latter, for
    there may always be weights that are better still; and they count only if the run's own were far smaller.
    """
    if lab.loss is None or (lab.gain > 0.9 and not lab.bottomless):
        return None
    start = starting(lab)
    if start is None or start.same or not is_faded(start, is_smaller(lab)):
        return None
    told = heals(lab, *([rescaled(lab)] if lab.sick else []), *([redrawn()] if is_smaller(lab) else []))
    if told is None:
        return None
    hidden = start.spreads[:-1] or start.spreads
    summary = (
        f"The signal vanishes: what layers give spreads by {hidden[0]:.2g} at first and by {min(hidden):.2g} later; "
        f"with larger weights the loss is {told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(
        summary,
        {"first": hidden[0], "least": min(hidden), "slope": start.slope, **told.evidence},
        True,
        cure=told.change,
    )


def is_faded(start: Start, smaller: bool) -> bool:
    """Return whether layers let less and less through. smaller: whether weights are, than torch makes them.

    A recurrent layer of one input has weights that look small, for they are drawn by the number of its units.
    """
    hidden = start.spreads[:-1]
    faded = len(hidden) > 1 and min(hidden[1:]) < FADED * max(hidden[0], 1e-12)
    return faded or (smaller and start.least < SMALL * 0.6) or (len(hidden) > 2 and start.slope < 0.02)


def demo(run: Demo) -> None:
    """Ten layers of tanh with small weights."""
    sizes = [8, *[24] * 8]
    layers = [each for a, b in pairwise(sizes) for each in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(24, 3))
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02 if run.faulty else layer.in_features**-0.5)
    rows: Rows = run.classes()
    train(run, model, torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9), entropy, run.batches(rows))
