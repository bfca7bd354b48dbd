"""The data that batches are drawn from, where they can be seen, and how well neighbours tell of each other."""

import itertools
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest.doctor.data import filled, pooled, roles, rows
from steepest.doctor.history import tensors
from steepest.doctor.lab import Lab

DEEP, MANY = 4, 64
"""So many objects deep it is looked, and at so many in each."""

LEAST = 60
"""Rows that say anything."""


def stored(lab: Lab) -> list[Tensor] | None:
    """Return the data set, a tensor for each place of a batch with rows in order; None where it cannot be seen."""
    if "stored" not in lab.notes:
        passes = lab.passes(1)
        lab.notes["stored"] = _stored(lab.source, list(tensors(passes[0].batch))) if passes else None
    return lab.notes["stored"]


def _stored(source: Any, like: list[Tensor]) -> list[Tensor] | None:
    held = _held(source)
    if not like or any(not each.ndim for each in like):
        return None
    for count in dict.fromkeys(len(each) for each in held):
        if count < LEAST or count <= len(like[0]):
            continue
        fits = [[one for one in held if len(one) == count and _alike(one, each)] for each in like]
        for found in itertools.islice(itertools.product(*fits), 8):
            if len({id(each) for each in found}) == len(found) and _holds(found, like):
                return list(found)
    return None


def _alike(one: Tensor, other: Tensor) -> bool:
    """Return whether rows of one could be rows of the other: shape, kind, and for whole numbers their values."""
    if one.shape[1:] != other.shape[1:] or one.is_floating_point() != other.is_floating_point():
        return False
    return one.is_floating_point() or (len(one.unique()) <= 4 * len(other.unique()) and set_of(other) <= set_of(one))


def set_of(value: Tensor) -> set[Any]:
    """Return the values in a tensor of whole numbers."""
    return set(value.unique().tolist())


def _holds(found: Sequence[Tensor], like: list[Tensor]) -> bool:
    """Return whether the rows of a batch are there, each place with the others; so is it where inputs are augmented."""
    at = (found[0].reshape(len(found[0]), -1) == like[0][0].reshape(-1)).all(1).nonzero()[:, 0]
    if not len(at):
        return like[0].is_floating_point() and like[0][0].numel() > 1
    others = zip(found[1:], like[1:], strict=True)
    return all(bool((one[at] == each[0]).reshape(len(at), -1).all(1).any()) for one, each in others)


def _held(source: Any) -> list[Tensor]:
    """Return the tensors that an object holds, or those that it holds."""
    found: list[Tensor] = []
    waiting, seen = [(source, 0)], set()
    while waiting:
        value, depth = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray) and value.dtype != object and value.ndim:
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            found += [value] if value.ndim else []
        elif depth < DEEP:
            waiting += [(each, depth + 1) for each in _inside(value)[:MANY]]
    return found


def _inside(value: Any) -> list[Any]:
    if isinstance(value, types.GeneratorType):
        return list(value.gi_frame.f_locals.values()) if value.gi_frame is not None else []
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, type | types.ModuleType | types.FunctionType | torch.nn.Module):
        return []
    return list(vars(value).values()) if hasattr(value, "__dict__") else []


def pairs(lab: Lab, columns: Sequence[Tensor] | None) -> tuple[Tensor, Tensor] | None:
    """Return inputs, a row of floats each, and targets, of the data given as places of a batch; None without."""
    part = roles(lab)
    if columns is None or part.target is None or not part.inputs or part.target in part.inputs:
        return None
    x, y = columns[part.inputs[0]], columns[part.target]
    if not x.is_floating_point() or len(x) < LEAST or len(y) != len(x) or (y.ndim > 1 and y.numel() != len(y)):
        return None
    return x.detach().reshape(len(x), -1).double(), y.detach().reshape(-1)


def latest(lab: Lab, count: int = 40) -> list[Tensor] | None:
    """Return the rows of the latest batches, in the order they came."""
    updates = list(lab.history.latest)[-count:]
    return pooled([each.of for update in updates for each in update.backwards if rows(each.of.batch)])


def is_classes(y: Tensor) -> bool:
    """Return whether targets are classes: a few different whole numbers."""
    return len(y.unique()) <= max(2, min(100, len(y) // 10)) and bool((y == y.round()).all())


def skill(x: Tensor, y: Tensor, shifts: Sequence[int] = (0,), near: int = 7) -> list[float]:
    """Return how well the nearest rows tell a row's target, 0 for chance and 1 for always.

    With a shift, the target is that of so many rows before.
    """
    spread = x.std(0, correction=0)
    x = ((x - x.mean(0)) / spread.masked_fill(spread < 1e-12, 1.0))[:, spread > 1e-12]
    if not x.shape[1]:
        return [0.0] * len(shifts)
    apart = torch.cdist(x, x).fill_diagonal_(float("inf"))
    closest = apart.topk(near, largest=False).indices
    return [_skill(y.roll(shift), closest) for shift in shifts]


def _skill(y: Tensor, closest: Tensor) -> float:
    if is_classes(y):
        shares = torch.unique(y, return_counts=True)[1].double() / len(y)
        chance = float(shares.square().sum())
        return (float((y[closest] == y[:, None]).double().mean()) - chance) / max(1e-9, 1 - chance)
    told = y[closest].double().mean(1)
    return float(torch.corrcoef(torch.stack([told, y.double()]))[0, 1].nan_to_num())


def drawn_from(columns: list[Tensor]) -> Callable[[Any], Any]:
    """Return what puts rows of a data set in the place of a batch, in one order of its own."""
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0)).tolist()
    places = itertools.cycle(order)

    def draw(batch: Any) -> Any:
        size = len(next(tensors(batch)))
        some = [next(places) for _ in range(size)]
        return filled(batch, [each[some] for each in columns])

    return draw
