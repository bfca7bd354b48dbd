"""A gradient that is not finite goes through the clipping."""

import math
from collections.abc import Sequence

import torch

from steepest.doctor.cause import EVENT, EXACT, MARK, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import Update
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import scene
from steepest.doctor.repair_proof import SPARING
from steepest.doctor.replay import Change
from steepest.doctor.trial import opening

FIX = "Do not step where the length is not finite: clip_grad_norm_(..., error_if_nonfinite=True), or skip and count it."


@cause("E07", "bad-entry-clipped", fix=FIX, when=EVENT, weight=EXACT, masks="B12 C D E08")
def bad_entry_clipped(lab: Lab) -> Found | None:
    """One entry of a gradient is not finite, and after clipping all weights are NaN, or none moves.

    The length that the clipping found is not finite, in the step before the loss is NaN; the gradient computed anew is
    finite there, or but for some entries, and without those the update is finite.
    """
    if lab.event is None:
        return None
    bad = [update for update in lab.history.latest if update.step <= lab.event and _not_finite(update)]
    if not bad or not math.isfinite(lab.history.losses[bad[0].step]):
        return None
    what = scene(lab)
    if what is not None and (what.forward or what.entries[0] > 0.5 * what.entries[1] or not what.entries[0]):
        return None
    start = opening(lab)
    replayed = lab.replay(start=start) if start is not None and lab.loss is not None else None
    again = what is None and replayed is not None and start is not None and lab.licence(start) and replayed.finite
    entries = what.entries[0] if what is not None else 0
    summary = (
        f"The gradient of step {bad[0].step} is not finite in {entries or 'some'} of its entries; clipping divides "
        "by its length, which spreads it over all weights."
    )
    return Found(summary, {"step": bad[0].step, "entries": entries}, again or entries > 0, bad[0].step)


@cause("E07", "bad-entry-clipped", fix=FIX, when=MARK, weight=EXACT, masks="C D")
def nothing_left(lab: Lab) -> Found | None:
    """One entry of a gradient is not finite, and after clipping nothing moves.

    The length that the clipping found is infinite in a tenth of the steps or more: it multiplies by zero then.
    """
    told = [update for update in lab.history.latest if update.clips]
    bad = [update for update in told if _not_finite(update)]
    if lab.event is not None or len(bad) < 3 or len(bad) < 0.1 * len(told):
        return None
    summary = f"In {len(bad)} of {len(told)} steps the gradient is not finite; clipping makes zeros of all the rest."
    return Found(summary, {"steps": len(bad), "of": len(told)}, True, bad[0].step)


def _not_finite(update: Update) -> bool:
    return any(not math.isfinite(float(length)) for _, length in update.clips)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Leave such steps out, which have to be few."""
    return [SPARING]


def demo(run: Demo) -> None:
    """An entry of the gradient overflows once."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes()))):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        gradient = next(model.parameters()).grad
        if run.faulty and step == 30 and gradient is not None:
            gradient[0, 0] = math.inf
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
