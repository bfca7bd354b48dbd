"""What a scheduler of the rate will do, found by letting a copy of it run."""

import copy
import gc
import warnings
from typing import Any

import torch
from torch.optim import SGD, lr_scheduler

from steepest.doctor.lab import Lab

CALLS = 2000
"""Calls that are tried."""

FACTORS = ("StepLR", "MultiStepLR", "ExponentialLR", "MultiplicativeLR")
"""Schedulers that multiply the rate, and are made for epochs."""


def scheduler(lab: Lab) -> Any:
    """Return the scheduler of the optimizer: the one that was given, or that is alive; None if there is none."""
    if lab.scheduler is not None:
        return lab.scheduler
    if "scheduler" not in lab.notes:
        kinds = lr_scheduler.LRScheduler
        alive = [each for each in gc.get_objects() if issubclass(type(each), kinds)]
        mine = [each for each in alive if getattr(each, "optimizer", None) is lab.optimizer]
        lab.notes["scheduler"] = mine[-1] if len(mine) == 1 else None
    return lab.notes["scheduler"]


def foreseen(lab: Lab, made: Any, calls: int) -> list[float]:
    """Return the greatest rate after 0, 1, 2 ... calls from the beginning; none where it cannot be foreseen."""
    if not isinstance(made, lr_scheduler.LRScheduler) or isinstance(made, lr_scheduler.ReduceLROnPlateau):
        return []
    groups = [
        {**{name: value for name, value in group.items() if name != "params"}, "params": [torch.zeros(1)]}
        for group in lab.optimizer.param_groups
    ]
    stand_in = SGD(groups, lr=0.0)
    for group, own in zip(stand_in.param_groups, lab.optimizer.param_groups, strict=True):
        group.update({name: value for name, value in own.items() if name != "params"})
    twin = copy.deepcopy(made, {id(lab.optimizer): stand_in})
    rates = {int(twin.last_epoch): _rate(stand_in)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(min(calls, CALLS)):
            try:
                twin.step()
            except ValueError:
                break
            rates[int(twin.last_epoch)] = _rate(stand_in)
    return [rates[call] for call in sorted(rates)]


def _rate(optimizer: Any) -> float:
    return max(float(group["lr"]) for group in optimizer.param_groups)


def calls(made: Any) -> int:
    """Return how often a scheduler was called."""
    return int(getattr(made, "last_epoch", 0))


def epoch(lab: Lab) -> int | None:
    """Return the batches of an epoch, None where they are not known, or the loop knows of none."""
    whole = [visit.batches for visit in lab.visits if visit.done]
    if whole:
        return whole[0]
    try:
        return len(lab.source)
    except TypeError:
        return None
