"""Parameters that receive gradients, and that nobody moves."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy, anatomy
from steepest.doctor.lab import Lab
from steepest.doctor.members import fresh, held, held_elsewhere

SMALL_STEPS = (1e-1, 1e-2, 1e-3)
"""Lengths of a step along the gradient, as parts of what is moved."""


@dataclass
class Forgotten:
    """Names of parameters that are in no optimizer though the loss hangs on them; and what else the optimizer holds.

    stale: how many tensors it holds that are in neither model nor loss. lowered: by what part the loss falls when only
    the forgotten ones are moved a little against their gradient, on a copy; 0 if it does not. trained: whether they
    look as if they had been trained before.
    """

    names: list[str]
    stale: int
    lowered: float
    trained: bool
    of: int


def forgotten(lab: Lab) -> Forgotten | None:
    """Return what is forgotten at this step; None if nothing is, or if it was not so at the look before."""
    if "forgotten" not in lab.notes or lab.notes["forgotten"][0] != lab.now:
        lab.notes["forgotten"] = (lab.now, _found(lab))
    return lab.notes["forgotten"][1]


def _found(lab: Lab) -> Forgotten | None:
    seen = anatomy(lab)
    if seen is None:
        return None
    leaves = seen.leaves()
    own, graph = held(lab), {seen.origins.get(id(each), id(each)) for each in leaves}
    loose = {_origin(seen, each): each for each in leaves if _origin(seen, each) not in own}
    suspects = {origin: each for origin, each in loose.items() if _still(lab, origin, each)}
    if not suspects:
        return None
    elsewhere = held_elsewhere(lab)
    suspects = {origin: each for origin, each in suspects.items() if origin not in elsewhere}
    gradients = seen.gradients(list(suspects.values()))
    pairs = [(each, g) for each, g in zip(suspects.values(), gradients, strict=True) if g is not None and bool(g.any())]
    stale = len(own - graph - {id(each) for each in lab.model.parameters()})
    if not pairs or not (own & graph or stale == len(own)):
        return None
    names = [lab.names_now().get(_origin(seen, each), "a hidden layer's") for each, _ in pairs]
    trained = not fresh(each for each, _ in pairs) and any(each.ndim > 1 for each, _ in pairs)
    return Forgotten(names, stale, _lowered(lab, seen, pairs), trained, len(graph))


def _origin(seen: Anatomy, each: nn.Parameter) -> int:
    return seen.origins.get(id(each), id(each))


def _still(lab: Lab, origin: int, value: Tensor) -> bool:
    """Return whether a parameter, by its own id, has not moved since the look before, nor since the start."""
    name = lab.names_now().get(origin)
    seen = lab.notes.setdefault("still", {})
    before = seen.get(origin)
    seen[origin] = value.detach().clone() if before is None else before
    first = dict(lab.start.model.named_parameters()).get(name or "") if lab.start is not None else None
    moved = first is not None and first.shape == value.shape and not torch.equal(first, value) and before is None
    return before is not None and not moved and torch.equal(before, value)


def _lowered(lab: Lab, seen: Anatomy, pairs: list[tuple[nn.Parameter, Any]]) -> float:
    """Return the greatest part by which the loss falls when only these move a little against their gradients."""
    before, best = float(seen.value.detach()), 0.0
    size = sum(float(each.detach().square().sum()) for each, _ in pairs) ** 0.5 or 1.0
    length = sum(float(g.square().sum()) for _, g in pairs) ** 0.5
    kept = [each.data for each, _ in pairs]
    for part in SMALL_STEPS:
        for (each, g), value in zip(pairs, kept, strict=True):
            each.data = value - part * size / length * g
        after = float(lab.ask(seen.model, seen.of).detach())
        best = max(best, (before - after) / max(abs(before), 1e-12))
    for (each, _), value in zip(pairs, kept, strict=True):
        each.data = value
    return best
