"""The schedule takes the rate to nearly nothing long before the end of the run."""

import math

import torch

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import later

NOTHING, LONG = 0.011, 0.3
"""Below such a part of its peak the rate is nearly nothing; it has been for such a part of the steps."""

AGAIN = 0.3
"""Part of its peak at which it is tried whether there was more to gain."""

BY = 0.15
"""Part by which the late loss has to fall at that rate."""


@cause("D05", "decays-too-early", fix="Make the schedule as long as the run, counted in what it is stepped by.",
       weight=1.95, masks="D02 D03 D21")  # fmt: skip
def decays_too_early(lab: Lab) -> Found | None:
    """The loss stands still from some step on.

    The rate is hundredfold below its peak, and has been for a third of the run; with three tenths of the peak the last
    steps, made again, go on to fall.
    """
    rates = lab.history.rates
    peak = max(rates, default=0.0)
    if lab.event is not None or len(rates) < 30 or peak <= 0 or not math.isfinite(peak):
        return None
    top = rates.index(peak)
    low = [step for step in range(top, len(rates)) if rates[step] < NOTHING * peak]
    if len(low) < LONG * len(rates) or rates[-1] >= NOTHING * peak or _jumped(rates, top):
        return None
    change = Change(f"three tenths of the peak, from step {lab.now}", settings={"lr": AGAIN * peak})
    found = later(lab, change, BY)
    if found is None:
        return None
    summary = (
        f"The rate fell to {rates[-1] / peak:.1g} of its peak by step {low[0]} and stayed there; with "
        f"{AGAIN * peak:.2g} the loss falls from {found.base:.3g} to {found.changed:.3g} in {found.steps} steps."
    )
    return Found(summary, {"peak": peak, "rate": rates[-1], **found.evidence}, proven=True, onset=low[0])


def _jumped(rates: list[float], top: int) -> bool:
    """Return whether the peak is a jump of some steps, so that all others look low beside it."""
    near = sum(rate > 0.5 * rates[top] for rate in rates)
    return near < 3 and top > 5


def demo(run: Demo) -> None:
    """A cosine that ends after a tenth of the run, at nothing."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    last = 12 if run.faulty else 128
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * min(step, last) / last)
    )
    for batch in run.watch(model, optimizer, entropy, scheduler)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
        scheduler.step()
