"""Dropout takes so much that little can be learned."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better
from steepest.doctor.twin import Twin

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
MUCH, LITTLE = 0.5, 0.1
"""More is suspected; what is tried instead."""


def _rates(model: nn.Module) -> Iterator[tuple[nn.Module, str, float]]:
    """Yield each module that drops, the name of its rate, and the rate."""
    for module in model.modules():
        name = "p" if isinstance(module, KINDS) else "dropout"
        rate: Any = getattr(module, name, None)
        if isinstance(rate, float):
            yield module, name, rate


def _less(twin: Twin) -> None:
    for module, name, rate in _rates(twin.model):
        setattr(module, name, min(rate, LITTLE))


LESS = Change("dropout of 0.1", prepare=_less)


def _most(model: nn.Module) -> float:
    return max((rate for *_, rate in _rates(model)), default=0.0)


@cause("D19", "dropout-too-high", fix="Lower dropout to 0.1 to 0.3.", weight=1.9, masks="D01 D02 D03 C12")
def takes_too_much(lab: Lab) -> Found | None:
    """The loss stops far above what the model could reach, in training mode more than in evaluation.

    With dropout of a tenth, the same steps get much further.
    """
    most = _most(lab.model)
    if lab.event is not None or not lab.sick or most <= MUCH:
        return None
    found = better(lab, LESS, 0.05)
    if found is None:
        return None
    summary = (
        f"Dropout of {most:g} takes too much: with {LITTLE:g} the loss ends at {found.changed:.3g} after {found.steps} "
        f"steps made again, and not at {found.base:.3g}."
    )
    return Found(summary, {"dropout": most, **found.evidence}, proven=True)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Drop a tenth at most."""
    return [LESS]


def demo(run: Demo) -> None:
    """Dropout of 0.95 after each layer."""
    drop = 0.95 if run.faulty else 0.05
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Dropout(drop), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(drop), nn.Linear(32, 3)
    )
    train(run, model, torch.optim.Adam(model.parameters(), lr=1e-2), entropy, run.batches(run.classes()))
