"""A weight changed, and not by the optimizer."""

import math
from statistics import median

import torch

from steepest.doctor.cause import EVENT, EXACT, MARK, REPLAYED, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin

FIX = "Go back to the last checkpoint; if it happens again, look for what writes to the weights, or test the memory."
MASKS = "B12 C D E05 E07"

JUMP, UNLIKE = 2.0, 6.0
"""Loss over what it was just before; an entry over all others of its tensor, at least."""


@cause("E08", "weight-written-over", fix=FIX, when=MARK, weight=EXACT, masks=MASKS)
def written_over(lab: Lab) -> Found | None:
    """The loss jumps in one step, and nothing explains it.

    Up to a step two replays give every loss as it was, and from there on another one: the weights were not those that
    the step before had left. An entry of one tensor is many times larger than all of them were.
    """
    step = _jump(lab)
    return _look(lab, step) if step is not None and lab.loss is not None else None


@cause("E08", "weight-written-over", fix=FIX, when=EVENT, weight=EXACT, masks=MASKS)
def written_over_now(lab: Lab) -> Found | None:
    """The loss is not finite from one step on, and nothing explains it.

    Two replays agree with each other, and with the run up to the jump; there, one tensor of the run is another.
    """
    if lab.event is None or lab.loss is None:
        return None
    step = lab.event if not math.isfinite(lab.history.losses[lab.event]) else _jump(lab)
    return _look(lab, step) if step is not None else None


def _jump(lab: Lab) -> int | None:
    """Return the step of the first jump of the loss that can be replayed."""
    losses = lab.history.losses
    for step in range(max(len(losses) - 90, 8), len(losses)):
        before = losses[step - 8 : step]
        usual = median(before)
        if losses[step] - usual > max(JUMP * abs(usual - min(before)), abs(usual)) and losses[step] > max(before):
            return step
    return None


def _look(lab: Lab, step: int) -> Found | None:
    start = _before(lab, step)
    if start is None:
        return None
    again = [lab.replay(change, start, step - start.step + 1) for change in (Change("once"), Change("twice"))]
    if any(each is None or len(each.losses) < step - start.step + 1 for each in again):
        return None
    one, other = (each.losses for each in again if each is not None)
    told = lab.history.losses[start.step : step + 1]
    faithful = all(abs(a - b) <= 1e-4 * abs(b) + 1e-9 for a, b in zip(one[:-1], told[:-1], strict=True))
    if one != other or not faithful or len(one) < 3 or not math.isfinite(one[-1]):
        return None
    if math.isfinite(told[-1]) and told[-1] < 1.3 * one[-1]:
        return None
    twin = again[0].twin if again[0] is not None else None
    odd = _odd(lab, twin) if twin is not None else None
    if odd is None:
        summary = (
            f"At step {step} the loss jumps to {told[-1]:.3g}; it is {one[-1]:.3g} in two replays, which were the "
            "same until there: something else than the optimizer has changed the weights."
        )
        return Found(
            summary, {"step": step, "loss": told[-1], "in replays": one[-1]}, onset=step, weight=REPLAYED + 0.3
        )
    name, size, usual = odd
    summary = (
        f"Before step {step} {name} was changed, and not by the optimizer: its largest entry is {size:.3g}, and "
        f"{usual:.3g} in two replays, whose loss is {one[-1]:.3g} where it was {told[-1]:.3g}."
    )
    return Found(summary, {"step": step, "tensor": name, "largest": size, "in replays": usual}, True, step)


def _before(lab: Lab, step: int) -> Twin | None:
    """Return the latest snapshot from which a step can be replayed."""
    for start in (lab.recent, lab.start):
        count = step - start.step + 1 if start is not None else 0
        if start is not None and count > 2 and len(lab.remembered(start, count)) == count:
            return start
    return None


def _odd(lab: Lab, twin: Twin) -> tuple[str, float, float] | None:
    """Return the one tensor with an entry that the replay's is far from having; None where several have."""
    own = dict(twin.model.named_parameters())
    found = []
    for name, each in lab.model.named_parameters():
        size, usual = float(each.detach().abs().max()), float(own[name].detach().abs().max())
        if not math.isfinite(size) or size > UNLIKE * max(usual, 1e-6) or _far(each, own[name]):
            found.append((name, size, usual))
    return found[0] if len(found) == 1 or (found and not math.isfinite(found[0][1])) else None


def _far(value: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether some entries, and not most, are far from where the replay has them."""
    apart = (value.detach() - other.detach()).abs().flatten()
    if len(apart) < 8:
        return False
    far = apart > 20 * apart.median() + 0.5 * float(other.detach().abs().max())
    return 0 < int(far.sum()) < 0.2 * len(apart)


def demo(run: Demo) -> None:
    """A high bit of one weight flips."""
    model = run.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step, batch in enumerate(run.watch(model, optimizer, entropy)(run.batches(run.classes(), 5))):
        if run.faulty and step == 40:
            with torch.no_grad():
                next(model.parameters())[3, 2] = 500.0
        optimizer.zero_grad()
        entropy(model, batch).backward()
        optimizer.step()
