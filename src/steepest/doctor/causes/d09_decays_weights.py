"""Weight decay is so strong that it undoes what is learned; in Adam, or on norms and biases, it is misplaced."""

from collections.abc import Sequence
from typing import Any

import torch

from steepest.doctor.cause import EVENT, MARK, Found, cause
from steepest.doctor.causes.d01_rate_too_high import LOWER
from steepest.doctor.demo import Demo, entropy, train
from steepest.doctor.lab import Lab
from steepest.doctor.replay import Change
from steepest.doctor.trial import Better, better, later
from steepest.doctor.twin import Twin

NONE = Change("no weight decay", settings={"weight_decay": 0.0})
LATE = 0.25
"""Part by which the late loss falls without decay."""

SHARE = 0.6
"""Of what a tenth of the rate gains: with less, it is the rate. Of what no decay at all gains: with less, decay is not
misplaced."""


def decayed(lab: Lab) -> bool:
    """Return whether any group decays its weights."""
    return any(group.get("weight_decay", 0) for group in lab.optimizer.param_groups)


def without(lab: Lab) -> Better | None:
    """Return what the run gains without weight decay, from its beginning or late."""
    if not decayed(lab) or not (lab.sick or lab.event is not None):
        return None
    gained = better(lab, NONE)
    if gained is None:
        return later(lab, NONE, LATE) if lab.event is None else None
    slower = better(lab, LOWER[0])
    return gained if slower is None or gained.share_of(slower) >= SHARE else None


def _found(lab: Lab) -> Found | None:
    gained = without(lab)
    if gained is None or misplaced(lab, gained) is not None:
        return None
    most = max(group.get("weight_decay", 0) for group in lab.optimizer.param_groups)
    summary = (
        f"Weight decay of {most:g} undoes what is learned: without it {gained.steps} steps made again end at "
        f"{gained.changed:.3g}, and with it at {gained.base:.3g}."
    )
    return Found(summary, {"weight decay": most, **gained.evidence}, proven=True)


FIX = "Lower weight_decay: 0.01 to 0.1 for AdamW, 1e-4 for SGD."


@cause("D09", "weight-decay-too-high", fix=FIX, when=MARK, weight=1.9, masks="D01 D02 D03 C03 C05 C12")
def decays_weights(lab: Lab) -> Found | None:
    """The loss stops far too high, or comes back to where it began, while weights shrink.

    The same steps, made again without weight decay, get much further than the run.
    """
    return _found(lab)


@cause("D09", "weight-decay-too-high", fix=FIX, when=EVENT, weight=1.9, masks="D01 D02 D03 C03 C05 C12")
def brings_back(lab: Lab) -> Found | None:
    """The loss has risen for good.

    The steps that led there are made again without weight decay, and it does not.
    """
    return _found(lab)


def misplaced(lab: Lab, gained: Better) -> str | None:
    """Return where decay should not be, if it is there that it does its harm; gained: without any."""
    groups = lab.optimizer.param_groups
    if type(lab.optimizer) is torch.optim.Adam and not any(group.get("decoupled_weight_decay") for group in groups):
        return "in Adam it is added to the gradient, and divided by the second moment as the gradient is"
    if not any(each.ndim < 2 for group in groups for each in group["params"] if group.get("weight_decay", 0)):
        return None
    if all(each.ndim < 2 for group in groups for each in group["params"]):
        return None
    found = better(lab, Change("no decay of vectors", prepare=_spare_vectors))
    return None if found is None or found.share_of(gained) < SHARE else "it acts on norms and biases"


def _spare_vectors(twin: Twin) -> None:
    """Take vectors out of decay: their groups are split, so that recorded settings fit the first part only."""
    optimizer = twin.optimizer
    vectors = [each for group in optimizer.param_groups for each in group["params"] if each.ndim < 2]
    known = {id(each) for each in vectors}
    before: list[dict[str, Any]] = list(optimizer.param_groups)
    for group in before:
        group["params"] = [each for each in group["params"] if id(each) not in known]
    rate = max(group["lr"] for group in before)
    optimizer.add_param_group({**{k: v for k, v in before[0].items() if k != "params"}, "params": vectors,
                               "weight_decay": 0.0, "lr": rate})  # fmt: skip


def repair(lab: Lab, found: Found) -> Sequence[Change]:
    """Decay less, where all groups decay alike, or not at all."""
    decays = {group.get("weight_decay", 0.0) for group in lab.optimizer.param_groups}
    if len(decays) > 1:
        return [NONE]
    most = float(decays.pop())
    return [
        *(
            Change(f"{part:g} of the weight decay", settings={"weight_decay": part * most})
            for part in (0.1, 0.01, 1e-3)
        ),
        NONE,
    ]


def demo(run: Demo) -> None:
    """AdamW with a weight decay of 40."""
    model = run.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=40.0 if run.faulty else 0.01)
    train(run, model, optimizer, entropy, run.batches(run.classes()))
