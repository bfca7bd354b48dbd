"""The learning rate is so high that training diverges."""

import math
from collections.abc import Sequence
from statistics import median

import torch

from steepest.doctor.cause import EVENT, Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import Better, better

WEIGHT = 1.6
"""Less than what has a cause of its own: a tenth of the rate calms nearly everything."""

JUMPED, NEAR = 0.7, 12
"""Part of the last rate that the usual one is where it has jumped; steps before a blow-up that are not the usual."""

LITTLE = 0.1
"""A run that has gained more learns, down to a floor of noise: D02."""

LOWER = (Change("a tenth of the rate", rate=0.1), Change("a thousandth of the rate", rate=1e-3))
FIX = "Lower the learning rate to a tenth or less, or warm up to it; a guard or a clip would only hide this."


def calmer(lab: Lab) -> tuple[Change, Better] | None:
    """Return the lower rate that heals, the mildest first."""
    for change in LOWER:
        found = better(lab, change)
        if found is not None:
            return change, found
    return None


@cause("D01", "rate-too-high", fix=FIX, when=EVENT, weight=WEIGHT, masks="C05 C06 E07")
def blows_up(lab: Lab) -> Found | None:
    """The loss rises and does not come back, or is not finite.

    The steps that led there are made again from a snapshot: as they were they blow up again, at a tenth of the rate
    they do not.
    """
    found = None if _has_no_floor(lab) else calmer(lab)
    return None if found is None or lab.event is None else _said(found, "The loss blew up", lab.event)


def _has_no_floor(lab: Lab) -> bool:
    """Return whether a loss may well rise: of rewards, or of two energies, it says how far one is before the other.

    Where it was below zero, no criterion is known, and it has not come above where it began, nobody knows.
    """
    late, first = lab.late(), lab.history.losses[0]
    below = lab.constant is None and min(lab.history.losses) < 0
    return below and math.isfinite(late) and late <= first + LITTLE * abs(first)


@cause("D01", "rate-too-high", fix=FIX, weight=WEIGHT, masks="D02 C05 C06")
def hinders(lab: Lab) -> Found | None:
    """The loss is noisy and does not fall.

    From the first weights, over the same batches, a tenth of the rate gets further than the whole run has.
    """
    if lab.event is not None or not lab.sick or lab.gain > LITTLE:
        return None
    found = calmer(lab)
    return None if found is None else _said(found, "The loss does not fall as it could", 0)


def _said(found: tuple[Change, Better], what: str, onset: int) -> Found:
    change, gained = found
    summary = (
        f"{what} because of the rate: in {gained.steps} steps made again from step {gained.start} the loss ends at "
        f"{gained.base:.3g}, and at {gained.changed:.3g} at {change.name}."
    )
    return Found(summary, gained.evidence, proven=True, onset=onset)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Lower the rate to what it was, or so that the steps made again get furthest."""
    rates = lab.history.rates
    usual = median(rates[: max(1, (lab.event or 0) - NEAR)]) / rates[-1]
    before = [Change("the rate it had before", rate=usual)] if usual < JUMPED else []
    return [*before, *(Change(f"{each:g} of the rate", rate=each) for each in (0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3))]


def demo(run: Demo) -> None:
    """Plain descent at a rate a hundred times too high."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=30.0 if run.faulty else 0.1, momentum=0.9)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
