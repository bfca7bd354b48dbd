"""What stands in for torch's own functions while a script runs, so that it is heard what the script does with them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from steepest.doctor.script_watch import Attendance

HOOKS = "steepest.doctor"
"""Module of hooks that are not the script's."""


@contextmanager
def listening(to: Attendance) -> Iterator[None]:
    """Tell an attendance what is done with torch inside."""
    stand_ins = {
        (Optimizer, "__init__"): _constructed,
        (nn.Module, "__call__"): _called,
        (DataLoader, "__iter__"): _opened,
        (_BaseDataLoaderIter, "__next__"): _given,
        (GradScaler, "scale"): _scaled,
        (torch, "compile"): _compiled,
        (torch, "save"): _saved,
    }
    before = {(owner, name): getattr(owner, name) for owner, name in stand_ins}
    for (owner, name), make in stand_ins.items():
        own = before[owner, name]
        setattr(owner, name, functools.wraps(own)(make(to, own)))
    handle = register_optimizer_step_post_hook(lambda optimizer, args, kwargs: to.stepped(optimizer))
    to.trace.start()
    try:
        yield
    finally:
        to.trace.stop()
        handle.remove()
        for (owner, name), own in before.items():
            setattr(owner, name, own)


def _constructed(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def init(self: Optimizer, *args: Any, **kwargs: Any) -> None:
        own(self, *args, **kwargs)
        to.optimizer(self)

    return init


def _called(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if to.deaf or next(self.parameters(), None) is None:
            return own(self, *args, **kwargs)
        return to.call(own, self, args, kwargs)

    return call


def _opened(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def iterate(self: Any) -> Any:
        batches = own(self)
        to.opened(batches, self)
        return batches

    return iterate


def _given(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def following(self: Any) -> Any:
        try:
            batch = own(self)
        except StopIteration:
            to.ended(self)
            raise
        to.given(self)
        return batch

    return following


def _scaled(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def scale(self: GradScaler, outputs: Any) -> Any:
        with to.trace.silent():
            scaled = own(self, outputs)
        to.trace.scaled(outputs, scaled)
        return scaled

    return scale


def _compiled(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def compile(model: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(model, nn.Module):  # a compiler would read what listens to the function into its code
            to.give_up("the script compiles a function, torch.compile(...)")
        return own(model, *args, **kwargs)

    return compile


def _saved(to: Attendance, own: Callable[..., Any]) -> Callable[..., Any]:
    def save(*args: Any, **kwargs: Any) -> Any:
        with _without_hooks(to), to.trace.silent():
            return own(*args, **kwargs)

    return save


@contextmanager
def _without_hooks(to: Attendance) -> Iterator[None]:
    """Take the doctor's hooks off models: a file that a whole model is written to is not to know of them."""
    kept = [(model, model._forward_pre_hooks.copy()) for model in (each.doctor.model for each in to.patients)]
    for model, hooks in kept:
        for key, hook in hooks.items():
            if getattr(hook, "__module__", "").startswith(HOOKS):
                del model._forward_pre_hooks[key]
    try:
        yield
    finally:
        for model, hooks in kept:
            model._forward_pre_hooks.clear()
            model._forward_pre_hooks.update(hooks)
