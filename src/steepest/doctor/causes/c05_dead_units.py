"""Most units of a layer never give anything."""

import torch
from torch import nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.layers import FLAT, Units, activity, starting
from steepest.doctor.redrawn import leaking, rescaled
from steepest.doctor.trial import heals, later

MOST = 0.7
"""Share of a layer's units that are dead."""

FIX = "Begin biases at 0 and weights by kaiming; lower the rate if they died later; or use a leaky ReLU."


@cause("C05", "dead-units", fix=FIX, when=MARK, weight=REPLAYED + 0.05, masks="A18 C03 C11 C12 D03 D15 D18")
def dead_from_the_start(lab: Lab) -> Found | None:
    """The loss stays on a plateau: what most units could learn is lost.

    Over several batches most units of a layer of ReLUs give 0 for every row, from the first step on, be it the one
    unit that the model gives. A replay from weights and biases with which they are active gains more, or one in which
    they let a little through below zero.
    """
    if lab.loss is None or not lab.sick:
        return None
    start = starting(lab)
    worst = _worst(start.units) if start is not None else None
    told = heals(lab, rescaled(lab), leaking()) if worst is not None else None
    if worst is None or told is None:
        return None
    summary = (
        f"{worst.dead:.0%} of the units of a layer are dead from the start; with active ones the loss is "
        f"{told.changed:.3g} where it is {told.base:.3g}."
    )
    return Found(summary, {"dead": worst.dead, "units": len(worst.active), **told.evidence}, True, cure=told.change)


@cause("C05", "dead-units", fix=FIX, when=MARK, weight=REPLAYED - 0.2, masks="C03 C11 C12 D15 D18")
def died_later(lab: Lab) -> Found | None:
    """The loss stays on a plateau, or has risen and stays up: what most units had learned is lost.

    Most units of a layer of ReLUs give 0 for every row of the latest batches, and did not at the start. If the weights
    before them are drawn anew, training goes on better from here than as it is.
    """
    start = starting(lab) if lab.loss is not None and lab.now >= 30 else None
    passes = list({id(each.of): each.of for update in lab.history.latest for each in update.backwards}.values())
    if start is None or not passes or not any(each.function in FLAT for each in start.units):
        return None
    now = _worst(activity(lab, lab.twin(), passes[-10:]))
    if now is None or _worst(start.units) is not None or lab.gain > 0.9:
        return None
    told = later(lab, rescaled(lab))
    if told is None:
        return None
    summary = (
        f"{now.dead:.0%} of the units of a layer have died since the start; with its weights drawn anew the loss falls "
        f"to {told.changed:.3g} where it stays at {told.base:.3g}."
    )
    return Found(summary, {"dead": now.dead, "units": len(now.active), **told.evidence}, True)


def _worst(units: list[Units]) -> Units | None:
    dead = [
        each
        for each in units
        if each.function in FLAT and (each.dead > MOST if len(each.active) > 3 else each.dead == 1)
    ]
    return max(dead, key=lambda each: each.dead, default=None)


def demo(run: Demo) -> None:
    """Biases of a layer begin at -10."""
    model = run.network()
    if run.faulty:
        for layer in [each for each in model if isinstance(each, nn.Linear)][:2]:
            nn.init.constant_(layer.bias, -10.0)
    train(run, model, torch.optim.Adam(model.parameters(), lr=3e-3), entropy, run.batches(run.classes()))
