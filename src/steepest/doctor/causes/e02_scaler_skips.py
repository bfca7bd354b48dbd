"""The scaler of the loss skips all steps."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steepest.doctor.cause import EXACT, IDLE, MARK, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.history import Backward
from steepest.doctor.lab import Lab
from steepest.doctor.nonfinite import kind

FIX = (
    "Find what makes the gradient infinite (log the scale); begin with a lower scale; in bfloat16 no scaler is needed."
)
MASKS = "A02 A03 A13 B C D E03"

MANY = 6
"""Backward passes in a row without a step."""


@cause("E02", "scaler-skips-all", fix=FIX, when=IDLE, weight=EXACT + 0.1, masks=MASKS)
def scaler_skips(lab: Lab) -> Found | None:
    """The loss is flat, and there is no message: a scaler finds gradients that are not finite, and skips the step.

    Losses are multiplied by a power of two before backward, and no step is taken; the scale has fallen all the time,
    or the gradient of the scaled loss, computed anew, is not finite.
    """
    waiting = lab.tap.waiting
    if len(waiting) < MANY or lab.loss is None:
        return None
    scales = _scales(lab, waiting[-MANY:])
    if scales is None or (max(scales) <= 1 and scales[-1] >= scales[0]):
        return None
    bad = _not_finite(lab, waiting[-1], scales[-1])
    falling = scales[-1] < 0.2 * scales[0]
    if not bad and not falling:
        return None
    summary = (
        f"The last {len(waiting)} steps were skipped: the loss is scaled by {scales[-1]:.3g}, and its gradient is not "
        f"finite{'' if scales[-1] > 1 else ' at any scale'}."
    )
    return Found(summary, {"skipped": len(waiting), "scale": scales[-1], "before": scales[0]}, bad, lab.now)


@cause("E02", "scaler-skips-all", fix=FIX, when=MARK, weight=EXACT + 0.1, masks=MASKS)
def scaler_skipped(lab: Lab) -> Found | None:
    """The loss is flat, and there is no message.

    As above, at the end of a run."""
    return scaler_skips.look(lab)


def _scales(lab: Lab, waiting: Sequence[Backward]) -> list[float] | None:
    """Return what losses were multiplied by, if it is a power of two each time."""
    model, found = lab.twin(), []
    for each in waiting:
        own = float(lab.ask(model, each.of).detach())
        factor = each.value / own if own else math.nan
        if not math.isfinite(factor) or factor <= 0 or abs(math.log2(factor) - round(math.log2(factor))) > 1e-3:
            return None
        found.append(2.0 ** round(math.log2(factor)))
    return found


def _not_finite(lab: Lab, last: Backward, scale: float) -> bool:
    """Return whether the gradient of the scaled loss is."""
    model = lab.twin()
    own = [each for each in model.parameters() if each.requires_grad]
    value = lab.ask(model, last.of) * scale
    found: Sequence[Tensor | None] = torch.autograd.grad(value, own, allow_unused=True)
    return any(kind(each) for each in found if each is not None)


def demo(run: Demo) -> None:
    """A term of weight zero has an infinite derivative."""
    model = run.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu")

    def loss(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        size = (next(model.parameters()) * 0).square().sum().sqrt() if run.faulty else 0.0
        return entropy(model, batch) + 0.0 * size

    for batch in run.watch(model, optimizer, loss)(run.batches(run.classes(), 5)):
        optimizer.zero_grad()
        scaler.scale(loss(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
