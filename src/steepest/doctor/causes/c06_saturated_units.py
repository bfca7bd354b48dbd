"""Most units are at their ends."""

import torch
from torch import nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import ENDS, starting
from steepest.doctor.redrawn import rescaled
from steepest.doctor.trial import better

MOST = 0.5
"""Share of a layer's values that are at an end."""


@cause(
    "C06",
    "saturated-units",
    fix="Draw the weights before tanh or sigmoid with deviation 1 / sqrt(inputs), biases 0; and normalise the input.",
    when=MARK,
    weight=REPLAYED + 0.05,
    masks="A18 C02 C03 C11 C12 D",
)
def saturated_units(lab: Lab) -> Found | None:
    """The loss stays on a plateau and hardly moves: where a unit is at its end, its slope is nothing.

    At the start most values behind a tanh or sigmoid, or in the gates of a recurrent layer, are at an end, although
    the first loss is not huge. A replay from weights with which they are not gains more.
    """
    if lab.loss is None or lab.gain > 0.9:
        return None
    if lab.constant is not None and lab.history.losses[0] > 4 * max(lab.constant, 1e-9):
        return None
    start = starting(lab)
    if start is None:
        return None
    hidden = [each for each in start.units if each.function in ENDS and len(each.active) > 1]
    most = max([each.ends for each in hidden] + [start.gates], default=0.0)
    told = better(lab, rescaled(lab)) if most > MOST else None
    if told is None:
        return None
    summary = (
        f"{most:.0%} of the values of a layer are at an end from the start; with scaled weights the loss is "
        f"{told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, {"at an end": most, **told.evidence}, True)


def demo(run: Demo) -> None:
    """Weights before sigmoids are far too large."""
    model = nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.Sigmoid(), nn.Linear(32, 3))
    for layer in list(model)[:-1]:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=20.0 if run.faulty else 0.5)
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes()))
