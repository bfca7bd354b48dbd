"""Experiments leave no trace: generators, and what the loss function holds besides the model, are as they were."""

import random
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from steepest.snapshot import same_random_state_after

DEEP = 3
"""So many functions that call each other are looked into."""

KEPT = (torch.Generator, np.random.Generator, random.Random, nn.Module)

OURS = "steepest.doctor"
"""What the doctor knows is not to be forgotten after each look, where a loss function can reach it."""

MANY = 1000
"""Longer lists and dicts are taken for data, and let be."""


@contextmanager
def aside(loss: Any, model: nn.Module) -> Iterator[None]:
    """Leave everything as if the body had not run, but for what it does to its own copies."""
    kept = [_keep(each) for each in _held(loss, model)]
    with same_random_state_after(), torch.enable_grad():
        try:
            yield
        finally:
            for put_back in kept:
                put_back()


def _held(loss: Any, model: nn.Module) -> list[Any]:
    """Return what a loss function could change: generators, other modules, small lists and dicts."""
    found: dict[int, Any] = {}
    waiting: list[tuple[Any, int]] = [(loss, 0)]
    seen: set[int] = set()
    while waiting:
        value, depth = waiting.pop()
        if id(value) in seen or value is model or type(value).__module__.startswith(OURS):
            continue
        seen.add(id(value))
        if isinstance(value, KEPT) or (isinstance(value, list | dict) and len(value) < MANY):
            found[id(value)] = value
        elif depth < DEEP:
            waiting += [(each, depth + 1) for each in _inside(value)]
    return list(found.values())


def _inside(value: Any) -> list[Any]:
    """Return what a function or an object refers to."""
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_full(cell)]
        names = [value.__globals__.get(name) for name in value.__code__.co_names]
        own = [each for each in names if not isinstance(each, types.ModuleType | type)]
        return [*cells, *own, *(value.__defaults__ or ())]
    if hasattr(value, "__dict__") and not isinstance(value, types.ModuleType | type):
        return list(vars(value).values())
    return []


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _keep(value: Any) -> Any:
    """Return what puts a thing back to what it is now."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits)
    if isinstance(value, random.Random):
        before = value.getstate()
        return lambda: value.setstate(before)
    if isinstance(value, nn.Module):
        return _keep_module(value)
    items = value.copy()
    return lambda: _refill(value, items)


def _keep_module(module: nn.Module) -> Any:
    """Of another network: its buffers, its modes, and the gradients that a loss may leave in it."""
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    gradients = [(each, each.grad, None if each.grad is None else each.grad.clone()) for each in module.parameters()]
    modes = [(each, each.training) for each in module.modules()]

    def put_back() -> None:
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
            for parameter, gradient, value in gradients:
                parameter.grad = gradient
                if gradient is not None and value is not None:
                    gradient.copy_(value)
        for each, training in modes:
            each.training = training

    return put_back


def _refill(value: Any, items: Any) -> None:
    value.clear()
    value.update(items) if isinstance(value, dict) else value.extend(items)
