"""The rate is too high to get below a floor of noise."""

from collections.abc import Sequence

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.causes.d01_rate_too_high import LITTLE, LOWER, WEIGHT
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better, later

FIX = "Let the rate decay to nearly nothing by the end of the run, or lower it by three to ten times."

FALLS = 0.75
"""Part of its late loss that a run loses at a tenth of the rate; healthy ones at a constant rate lose up to 0.6."""

FAR = 0.3
"""Part of the best constant's loss above which there is something left to gain."""


@cause("D02", "noise-floor", fix=FIX, weight=WEIGHT, masks="C05 C06 C12")
def never_gets_down(lab: Lab) -> Found | None:
    """The loss falls at first, and then stays noisy, far above what could be reached.

    From the first weights, over the same batches, a tenth of the rate gets further than the whole run has.
    """
    if lab.event is not None or not lab.sick or lab.gain <= LITTLE:
        return None
    found = better(lab, LOWER[0])
    if found is None:
        return None
    summary = (
        f"The rate is too high to settle: at a tenth of it the loss is at {found.changed:.3g} after {found.steps} "
        f"steps, where it was at {found.base:.3g}, and is at {found.run:.3g} now."
    )
    return Found(summary, found.evidence, proven=True)


@cause("D02", "noise-floor", fix=FIX, weight=1.0)
def has_room_below(lab: Lab) -> Found | None:
    """The loss has stopped falling at a rate that stays as it was.

    From now on, at a tenth of the rate, it falls at once by most of what is left. Healthy runs at a constant rate do so
    as well, a little less: this is a suspicion.
    """
    rates = lab.history.rates
    if lab.event is not None or lab.now < 60 or lab.constant is None or lab.late() < FAR * lab.constant:
        return None
    if rates[-1] < 0.5 * max(rates):
        return None
    found = later(lab, LOWER[0], FALLS)
    if found is None:
        return None
    summary = (
        f"The rate may be too high by now: at a tenth the loss falls from {found.base:.3g} to {found.changed:.3g}."
    )
    return Found(summary, found.evidence)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Lower the rate."""
    return [Change(f"{factor:g} of the rate", rate=factor) for factor in (0.3, 0.1, 0.03)]


def demo(run: Demo) -> None:
    """Adam at a rate forty times too high, to the end."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.4 if run.faulty else 0.01)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
