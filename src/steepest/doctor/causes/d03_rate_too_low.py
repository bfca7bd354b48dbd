"""The learning rate is so low that training crawls."""

from collections.abc import Sequence

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import FORK, Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better, knows

FACTORS = (10.0, 100.0, 1000.0, 10000.0)
BY = 0.25
"""What a higher rate has to gain beyond the whole run, in the steps of a replay."""

TWICE = 2.0
"""So much as far as the whole run it has to get."""

CRAWLS = 0.2
"""What a run has gained at the most of what there is to gain, where that is known, or where it has only begun."""

YOUNG = 100.0
"""So many times the rate it takes in a run that is shorter than a replay may be: one that needs ten may have begun."""

RISING = 1.5
"""A rate that has risen by so much over the second half of the run is in a warm-up."""


def faster(lab: Lab) -> tuple[float, dict[str, float]] | None:
    """Return the factor of the rate that gets furthest, with the numbers; None where none gets far beyond the run."""
    if lab.event is not None or knows(lab) or lab.scale is None:
        return None
    if lab.gain > CRAWLS and (lab.constant is not None or lab.now < FORK):
        return None
    factors = [factor for factor in FACTORS if factor >= YOUNG or lab.now >= FORK]
    beyond = max(BY, (TWICE - 1) * lab.gain)
    found = [(factor, better(lab, Change(f"rate x {factor:g}", rate=factor), BY, beyond)) for factor in factors]
    healed = [(factor, each) for factor, each in found if each is not None]
    if not healed or better(lab, Change("a tenth of the rate", rate=0.1), 0.0) is not None:
        return None
    factor, best = min(healed, key=lambda each: each[1].changed)
    return factor, best.evidence


def is_rising(lab: Lab) -> bool:
    """Return whether the rate is still in a warm-up."""
    rates = lab.history.rates
    return bool(rates) and rates[-1] > RISING * rates[len(rates) // 2]


@cause("D03", "rate-too-low", fix="Raise the learning rate; ten times as high is tried in a few minutes.", weight=1.6)
def crawls(lab: Lab) -> Found | None:
    """The loss falls smoothly and hardly at all.

    From the first weights, over the same batches, a rate ten to ten thousand times as high gets twice as far in 60
    steps as the whole run has, and a tenth of it does not.
    """
    found = None if is_rising(lab) else faster(lab)
    if found is None:
        return None
    factor, evidence = found
    summary = f"The rate is too low: at {factor:g} times the rate the loss falls much further, in fewer steps."
    return Found(summary, {"factor": factor, **evidence}, proven=True)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Raise the rate: what gets furthest of several is taken."""
    return [Change(f"{factor:g} times the rate", rate=factor) for factor in (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)]


def demo(run: Demo) -> None:
    """Adam at a rate a thousand times too low."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5 if run.faulty else 1e-2)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
