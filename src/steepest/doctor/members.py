"""Who holds which parameter, and whether a weight is as it was first drawn."""

import gc
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steepest.doctor.lab import Lab

SIDE = 512
"""Rows and columns of a matrix that are looked at."""

SMALL = 64
"""A matrix of fewer entries says nothing of how it was drawn."""

MOST = 0.8
"""Weights are fresh together where so many of their matrices are."""


def held(lab: Lab) -> set[int]:
    """Return the ids of what the optimizer holds."""
    return {id(each) for each in lab.stepped()}


def held_elsewhere(lab: Lab) -> set[int]:
    """Return the ids of what any other optimizer holds that is alive, whether it has stepped or not."""
    found = set()
    for thing in gc.get_objects():
        if issubclass(type(thing), Optimizer) and thing is not lab.optimizer:
            found |= {id(each) for group in getattr(thing, "param_groups", ()) for each in group["params"]}
    return found


def unmoved(lab: Lab, name: str, value: Tensor) -> bool:
    """Return whether a parameter is bit for bit what it was at the first snapshot; False if there is none."""
    if lab.start is None:
        return False
    first = dict(lab.start.model.named_parameters()).get(name)
    return first is not None and first.shape == value.shape and bool(torch.equal(first, value.detach()))


def fresh(weights: Iterable[Tensor]) -> bool:
    """Return whether most of the matrices among weights look drawn at random, by their greatest singular value.

    Entries that are independent, and orthogonal matrices, have none above (sqrt(rows) + sqrt(columns)) x their
    deviation; training adds directions that do.
    """
    matrices = [each for each in weights if each.ndim > 1]
    drawn = [looks_drawn(each) for each in matrices if each.numel() >= SMALL]
    return bool(drawn) and sum(drawn) >= MOST * len(drawn)


def from_scratch(lab: Lab, names: set[str]) -> bool:
    """Return whether parameters that are too small to say how they were drawn are of a model that was drawn throughout.

    Some of them are matrices, and all large ones of the model, of which there are some, looked drawn at the start.
    """
    model = lab.model if lab.start is None else lab.start.model
    own = dict(model.named_parameters())
    small = [each for name, each in own.items() if name in names and each.ndim > 1]
    return bool(small) and all(each.numel() < SMALL for each in small) and fresh(own.values())


def looks_drawn(weight: Tensor) -> bool:
    """Return whether the entries of a matrix look independent of each other, or are all the same."""
    matrix = weight.detach().flatten(1)[:SIDE, :SIDE].float()
    deviation = float(matrix.std())
    if not deviation > 0:
        return True
    rows, columns = matrix.shape
    edge = (rows**0.5 + columns**0.5) * deviation
    return (
        float(torch.linalg.matrix_norm(matrix - matrix.mean(), 2)) < 1.06 * edge
        and abs(float(matrix.mean())) < 5 * deviation / matrix.numel() ** 0.5 + 0.05 * deviation
    )


def default_law(module: nn.Module, weight: Tensor) -> bool:
    """Return whether a weight has just what its layer draws when it is made: uniform, within a bound."""
    if not isinstance(module, nn.Linear | nn.modules.conv._ConvNd | nn.RNNBase) or weight.ndim < 2:
        return looks_drawn(weight)
    inputs = module.hidden_size if isinstance(module, nn.RNNBase) else weight[0].numel()
    bound, values = inputs**-0.5, weight.detach().float()
    near = abs(float(values.std()) * 3**0.5 / bound - 1) < 0.08 + 2 / weight.numel() ** 0.5
    return float(values.abs().max()) <= bound * (1 + 1e-6) and near


def copied(lab: Lab, names: set[str]) -> bool:
    """Return whether every one of these parameters began as a copy of another of the model: a target, a teacher."""
    model = lab.model if lab.start is None else lab.start.model
    own = dict(model.named_parameters())
    rest = [each for name, each in own.items() if name not in names]
    wanted = [own[name] for name in names if name in own and float(own[name].detach().float().std(correction=0)) > 0]
    return bool(wanted) and all(
        any(each.shape == other.shape and torch.equal(each, other) for other in rest) for each in wanted
    )
