"""The gradient grows from layer to layer, or from time to time."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from steepest.doctor.cause import EVENT, MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import Start, starting
from steepest.doctor.redrawn import damped, rescaled
from steepest.doctor.trial import better

FIX = "Begin recurrent weights orthogonal, deep ones with norms or residual connections; and clip the gradient."
MASKS = "A18 C02 C03 C05 C06 D E07"

RADIUS, GROWN, LARGE = 1.3, 30.0, 4.0
"""Factor of a recurrent matrix; spread of the last of many layers over that of the first; gain that is C02's."""


@cause("C04", "gradient-explodes", fix=FIX, when=MARK, weight=REPLAYED + 0.05, masks=MASKS)
def gradient_explodes(lab: Lab) -> Found | None:
    """The loss has spikes or is huge, however small the rate.

    A recurrent matrix multiplies by far more than 1 at each time, or what many layers give grows from each to the
    next. A replay from weights that are scaled to keep numbers at their size, or with layers that add less to what they
    are given, gains more.
    """
    return _look(lab) if lab.loss is not None and lab.sick else None


@cause("C04", "gradient-explodes", fix=FIX, when=EVENT, weight=REPLAYED + 0.05, masks=MASKS)
def gradient_blows_up(lab: Lab) -> Found | None:
    """The loss blows up, however small the rate.

    As above; and the replay from scaled weights does not blow up.
    """
    return _look(lab) if lab.loss is not None else None


def _look(lab: Lab) -> Found | None:
    start = starting(lab)
    if start is None or not (start.radius > RADIUS or (_grows(start) and start.largest < LARGE)):
        return None
    told = better(lab, rescaled(lab))
    if told is None and start.radius <= RADIUS:
        told = better(lab, damped(lab))
    if told is None:
        return None
    what = (
        f"A recurrent matrix multiplies by {start.radius:.3g} at each time"
        if start.radius > RADIUS
        else f"What layers give grows from {start.spreads[0]:.3g} to {max(start.spreads):.3g} with depth"
    )
    summary = f"{what}; with smaller weights the loss is {told.changed:.3g} where it is {told.base:.3g}."
    return Found(summary, {"radius": start.radius, "spreads": max(start.spreads, default=0.0), **told.evidence}, True)


def _grows(start: Start) -> bool:
    """Return whether each of many layers makes numbers larger."""
    spreads = start.spreads[:-1]
    rises = sum(b > 1.2 * a for a, b in pairwise(spreads)) if len(spreads) > 1 else 0
    return len(spreads) >= 6 and rises >= 0.7 * (len(spreads) - 1) and spreads[-1] > GROWN * max(spreads[0], 1e-12)


class _Reader(nn.Module):
    """Reads eight numbers one after the other."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.layer = nn.RNN(1, 24, batch_first=True, nonlinearity="relu")
        inner = self.layer.get_parameter("weight_hh_l0")
        nn.init.orthogonal_(inner)
        inner.data.mul_(factor)
        self.head = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.repeat(1, 2)[:, :, None])[0][:, -1])


def demo(run: Demo) -> None:
    """Recurrent weights three times an orthogonal matrix."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[0][:, 1:3].sum(1, keepdim=True))

    model = _Reader(3.0 if run.faulty else 1.0)
    rows = run.batches(run.classes())
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), loss, rows)
