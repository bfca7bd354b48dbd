"""Weights are in half precision, and updates are rounded away."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steepest.doctor.cause import MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, Rows, train
from steepest.doctor.lab import Lab
from steepest.doctor.precision import HALVES, IN_SINGLE
from steepest.doctor.replay import Change
from steepest.doctor.trial import better

MOST = 0.3
"""Share of weights that an update does not move, from which on a small gain is enough."""

FIX = "Keep the weights in float32 (autocast does), or a master copy; or round updates at random."


@cause("E04", "updates-rounded-away", fix=FIX, when=MARK, weight=REPLAYED + 0.3, masks="C12 D E01")
def updates_lost(lab: Lab) -> Found | None:
    """The loss stays on a plateau although gradients are not zero.

    Weights, or what the optimizer remembers, are in float16 or bfloat16, or hold only numbers that these can hold. A
    replay with everything in single precision gains more.
    """
    if lab.loss is None or lab.now < 25 or lab.gain > 0.95:
        return None
    weights = [each for each in lab.stepped() if each.is_floating_point() and each.numel() > 1]
    state = [each for held in lab.optimizer.state.values() for each in held.values() if isinstance(each, Tensor)]
    narrow = [each for each in (*weights, *state) if each.dtype in HALVES]
    rounded = [each for each in weights if each.dtype == torch.float32 and each.numel() > 30 and _is_rounded(each)]
    if not narrow and len(rounded) < 0.5 * len([each for each in weights if each.numel() > 30]):
        return None
    if not narrow and not rounded:
        return None
    lost = _lost(lab) if narrow else 0.0
    told = better(lab, IN_SINGLE, 0.05 if lost < MOST else 0.005, 0.025 if lost < MOST else -1.0) if narrow else None
    summary = f"Weights are kept in {str(narrow[0].dtype).removeprefix('torch.')}" if narrow else "Weights are rounded"
    if told is not None:
        summary += f": in single precision the loss is {told.changed:.3g} where it is {told.base:.3g}."
        return Found(summary, {"weights not moved": lost, **told.evidence}, True)
    if narrow:
        return None
    return _unrounded(lab, summary)


def _lost(lab: Lab) -> float:
    """Return the share of weights that an update leaves as they are, although their gradient is not zero."""
    before, after = lab.replay(count=4), lab.replay(count=5)
    if before is None or after is None or len(after.losses) < 5:
        return 0.0
    still, moving = 0, 0
    for one, other in zip(before.twin.model.parameters(), after.twin.model.parameters(), strict=True):
        if other.grad is not None and not other.grad.is_sparse:
            pushed = other.grad != 0
            still, moving = still + int((pushed & (one == other)).sum()), moving + int(pushed.sum())
    return still / max(1, moving)


def _is_rounded(value: Tensor) -> bool:
    """Return whether all numbers are such as half precision has, and not for want of others."""
    flat = value.detach().flatten()
    if len(flat[:200].unique()) < 20:
        return False
    return any(bool((flat.to(kind).float() == flat).all()) for kind in HALVES)


def _unrounded(lab: Lab, summary: str) -> Found | None:
    """Compare the run with a replay, which does not round between steps."""
    replayed = lab.replay(Change("as it was, weights not rounded"))
    if replayed is None or lab.scale is None or not replayed.finite:
        return None
    steps = len(replayed.losses)
    told = lab.history.losses[max(0, steps - 8) : steps]
    gained = sum(told) / len(told) - replayed.late() if told else 0.0
    if gained < 0.05 * lab.scale or steps < 25:
        return None
    summary += (
        f" after each step: without that the loss is {replayed.late():.3g} where it is {sum(told) / len(told):.3g}."
    )
    return Found(summary, {"loss": sum(told) / len(told), "loss not rounded": replayed.late(), "steps": steps}, True)


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Compute all in single precision."""
    return [IN_SINGLE]


def demo(run: Demo) -> None:
    """Weights in bfloat16, at a rate that is too small for them."""

    def loss(model: nn.Module, batch: Rows) -> Tensor:
        kind = next(model.parameters()).dtype
        return nn.functional.cross_entropy(model(batch[0].to(kind)).float(), batch[1])

    model = run.network()
    if run.faulty:
        model = model.bfloat16()
    train(run, model, torch.optim.Adam(model.parameters(), lr=5e-4), loss, run.batches(run.classes(), 14))
