"""A weight changed, and not by the optimizer."""

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from steepest.doctor.cause import EXACT, STEP, Found, cause
from steepest.doctor.demo import Demo, entropy
from steepest.doctor.fresh import SAME, Fresh
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin

FIX = "Go back to the last checkpoint; if it happens again, look for what writes to the weights, or test the memory."

JUMP = 2.0
"""By so many times what it has lately varied a loss has risen."""

TRIES = 3
"""Jumps of the loss that are looked into."""

LEAST = 3
"""Steps that a replay has to have, to be held against the run."""

ROUNDING = 1e-3
"""Part of the largest entry of a tensor by which a faithful replay may miss it."""


@cause("E08", "weight-written-over", fix=FIX, when=STEP, weight=EXACT, masks="B12 C D E05 E07")
def written_over(lab: Lab) -> Found | None:
    """The loss jumps in one step, or is not finite from one step on, and nothing explains it.

    Before the step in which it does, a tensor of the model is another than in two replays of all steps until there,
    which agree with each other and with the run; most other tensors are the same. The loss of this batch is what it is
    with the model's weights, and as usual with those of the replays.
    """
    update = lab.update
    if update is None or lab.loss is None or not update.backwards or not _jumps(lab.history.losses, update.loss):
        return None
    tried: set[int] = lab.notes.setdefault("E08", set())
    if not lab.fresh or not _known(lab, lab.fresh[-1]) or len(tried) >= TRIES:
        return None
    tried.add(update.step)
    twin = _replayed(lab, update.step)
    odd = _odd(lab, twin) if twin is not None else []
    if twin is None or not odd:
        return None
    losses = [float(lab.ask(twin.model, each.of).detach()) * lab.way.factor for each in update.backwards]
    calm = sum(losses) / len(losses)
    if not math.isfinite(calm) or update.loss < 1.3 * calm:
        return None
    name, size, usual = odd[0]
    summary = (
        f"Before step {update.step} {name} was changed, and not by the optimizer: its largest entry is {size:.3g}, and "
        f"{usual:.3g} in two replays, whose loss is {calm:.3g} where it was {update.loss:.3g}."
    )
    evidence = {"step": update.step, "tensor": name, "largest": size, "in replays": usual}
    return Found(summary, evidence, proven=True, onset=update.step)


def _jumps(losses: Sequence[float], loss: float) -> bool:
    """Return whether a loss is not finite, or far above all that it has just been."""
    before = losses[-8:]
    if len(before) < LEAST or not all(map(math.isfinite, before)):
        return False
    usual = median(before)
    far = max(JUMP * abs(usual - min(before)), abs(usual))
    return not math.isfinite(loss) or (loss - usual > far and loss > max(before))


def _known(lab: Lab, fresh: Fresh) -> bool:
    """Return whether the loss of this step is that of the batch that was given out, at the weights as they are."""
    if lab.update is None or fresh.step != lab.update.step:
        return False
    if not all(map(math.isfinite, fresh.told)):
        return not all(map(math.isfinite, fresh.own))
    factor = lab.way.factor
    return fresh.factor is not None and abs(fresh.factor - factor) <= 10 * SAME * abs(factor)


def _replayed(lab: Lab, step: int) -> Twin | None:
    """Return the model as two replays have it before a step, if they are alike, and as the run was until there."""
    for start in (lab.recent, lab.start):
        count = step - start.step if start is not None else 0
        if start is None or count < LEAST or len(lab.remembered(start, count)) < count:
            continue
        made = [lab.replay(change, start, count) for change in (Change("once"), Change("twice"))]
        told = lab.history.losses[start.step : step]
        one, other = (each.losses if each is not None else [] for each in made)
        faithful = all(abs(a - b) <= 1e-4 * abs(b) + 1e-9 for a, b in zip(one, told, strict=False))
        return made[0].twin if made[0] is not None and one == other and len(one) == count and faithful else None
    return None


def _odd(lab: Lab, twin: Twin) -> list[tuple[str, float, float]]:
    """Return the tensors that the replay has not: name, largest entry, that of the replay; none if most are such."""
    own = dict(twin.model.named_parameters())
    pairs = [(name, each.detach(), own[name].detach()) for name, each in lab.model.named_parameters() if name in own]
    found = [(name, _largest(a), _largest(b)) for name, a, b in pairs if not _same(a, b)]
    return found if 2 * len(found) <= len(pairs) else []


def _same(value: Tensor, other: Tensor) -> bool:
    return value.shape == other.shape and bool(((value - other).abs() <= ROUNDING * max(_largest(other), 1e-6)).all())


def _largest(value: Tensor) -> float:
    return float(value.abs().max()) if value.numel() else 0.0


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
