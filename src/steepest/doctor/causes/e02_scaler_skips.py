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


HALF_MOST = torch.finfo(torch.float16).max

SCALED = 2.0**8
"""Losses are multiplied by more, where that is to save their gradients from half precision."""


@cause("E02", "scaler-skips-all", fix=FIX, when=IDLE, weight=EXACT + 0.1, masks=MASKS)
def scaler_skips(lab: Lab) -> Found | None:
    """The loss is flat, and there is no message: a scaler finds gradients that are not finite, and skips the step.

    Losses are multiplied by a power of two before backward, and no step is taken; the scale has fallen all the time,
    or the gradient of the scaled loss, computed anew, is not finite. With another factor, or the same all the time, it
    is beyond what half precision holds at each of the last passes, and would not be with a scale of one.
    """
    waiting = lab.tap.waiting
    if len(waiting) < MANY or lab.loss is None:
        return None
    scales = _scales(lab, waiting[-MANY:])
    if scales is None or (max(scales) <= 1 and scales[-1] >= scales[0]):
        return None
    bad = _not_finite(lab, waiting[-1], scales[-1])
    falling = scales[-1] < 0.2 * scales[0] and _is_power(scales)
    if not bad and not falling:
        return _too_high(lab, waiting[-MANY:], scales)
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


def _too_high(lab: Lab, waiting: Sequence[Backward], scales: list[float]) -> Found | None:
    """Return the finding where scaled gradients are beyond half precision at each of the last passes."""
    lengths = [_largest(lab, each) for each in waiting]
    if not all(large < HALF_MOST < large * scale for large, scale in zip(lengths, scales, strict=True)):
        return None
    summary = (
        f"The last {len(lab.tap.waiting)} gradients were not used: the loss is scaled by {scales[-1]:.3g}, which makes "
        f"entries of {lengths[-1] * scales[-1]:.2g}; half precision holds {HALF_MOST:.0f} at the most."
    )
    return Found(summary, {"skipped": len(lab.tap.waiting), "scale": scales[-1]}, False, lab.now)


def _scales(lab: Lab, waiting: Sequence[Backward]) -> list[float] | None:
    """Return what losses were multiplied by, one or more each time; None where that is not so."""
    model, found = lab.twin(), []
    for each in waiting:
        own = float(lab.ask(model, each.of).detach())
        factor = each.value / own if own else math.nan
        if not math.isfinite(factor) or factor <= 0:
            return None
        found.append(factor)
    if _is_power(found):
        return [2.0 ** round(math.log2(each)) for each in found]
    return found if min(found) > SCALED else None


def _is_power(scales: Sequence[float]) -> bool:
    return all(abs(math.log2(each) - round(math.log2(each))) <= 1e-3 for each in scales)


def _largest(lab: Lab, of: Backward) -> float:
    """Return the largest entry of the gradient of a loss that is not scaled."""
    model = lab.twin()
    own = [each for each in model.parameters() if each.requires_grad]
    found = torch.autograd.grad(lab.ask(model, of.of), own, allow_unused=True)
    return max((float(each.abs().max()) for each in found if each is not None and each.numel()), default=0.0)


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
