"""Gradients are clipped so short that training crawls."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from steepest.doctor.cause import Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

SHORTENED, OFTEN = 0.98, 0.6
"""Of the sampled steps, such a part has gradients that were shortened to such a part."""


@cause("D07", "clips-every-step", fix="Clip at the 90th percentile of the gradients' norms, or not at all.", weight=1.9,
       masks="D03 D14")  # fmt: skip
def clips_all(lab: Lab) -> Found | None:
    """The loss falls slowly, whatever the gradient.

    The gradient that is used is nearly always shorter than that of its batch, computed anew, and points the same way;
    without the clipping the same steps get much further.
    """
    if lab.event is not None or not lab.sick or len(lab.fresh) < 4:
        return None
    short = [each for each in lab.fresh if each.same_loss and each.cosine > 0.3 and each.ratio < SHORTENED]
    if len(short) < OFTEN * len(lab.fresh):
        return None
    found = better(lab, Change("no clipping", clip=math.inf))
    if found is None:
        return None
    part = sorted(each.ratio for each in short)[len(short) // 2]
    summary = (
        f"Gradients are clipped in {len(short)} of {len(lab.fresh)} steps looked at, to {part:.2g} of their length in "
        f"the median; without clipping {found.steps} steps end at {found.changed:.3g}, and not at {found.base:.3g}."
    )
    return Found(summary, {"clipped to": part, **found.evidence}, proven=True)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Clip no more."""
    return [Change("no clipping", clip=math.inf)]


def demo(run: Demo) -> None:
    """Plain descent with gradients clipped to a thousandth."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for batch in run.watch(model, optimizer, entropy)(run.batches(run.classes())):
        optimizer.zero_grad()
        entropy(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3 if run.faulty else 10.0)
        optimizer.step()
