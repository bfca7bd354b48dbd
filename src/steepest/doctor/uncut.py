"""Computes a loss as if nothing in it stopped gradients: what was cut, where, and what would arrive if it were not."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from steepest.doctor.grammar import place

STEPS = {"round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside"}
"""Functions whose derivative is zero."""

DETACHING = {"detach", "detach_"}

DATA_OF: Any = getattr(torch.Tensor.data, "__get__")  # noqa: B009

DATA = {"numpy", "tolist", "item", "__float__", "__array__"}
"""Functions that make numbers of tensors."""

NEW = {"tensor", "as_tensor", "from_numpy", "scalar_tensor"}
"""Functions that make tensors of what is none."""


class Uncut(TorchFunctionMode):
    """Lets gradients through where they are stopped. only: at that place alone; everywhere if None.

    cuts: place -> what is done there, "no_grad" or the name of a function, in the order in which they were met.
    """

    def __init__(self, only: str | None = None) -> None:
        super().__init__()
        self.only = only
        self.cuts: dict[str, str] = {}
        self._left: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = "data" if func == DATA_OF else getattr(func, "__name__", "")
        if func is torch._C._set_grad_enabled:
            return None if args and not args[0] and self._opens("no_grad") else func(*args, **kwargs)
        if name in NEW:
            return self._tied(func, args, kwargs)
        if self._left:
            args = tuple(self._tie(each) for each in args)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is None or not first.requires_grad:
            return func(*args, **kwargs)
        if name in DETACHING or name == "data":
            return first if self._opens(name) else func(*args, **kwargs)
        if name in DATA:
            return self._leaves(func, first, args, kwargs) if self._opens(name) else func(*args, **kwargs)
        if name in STEPS and self._opens(name):
            return first + (func(*args, **kwargs) - first).detach()
        return func(*args, **kwargs)

    def _leaves(self, func: Callable[..., Any], first: Tensor, args: Any, kwargs: Any) -> Any:
        """Let a tensor become data, and remember it; a number stays a tensor, with which one can reckon as well."""
        self._left.append(first)
        if func is torch.Tensor.item:
            return first.reshape(())
        return func(first.detach(), *args[1:], **kwargs)

    def _tie(self, value: Any) -> Any:
        """Return what comes of data again, tied to the last tensor of its shape that was made data of."""
        if not isinstance(value, Tensor) or value.requires_grad or not value.is_floating_point():
            return value
        before = [each for each in self._left if each.shape == value.shape]
        return before[-1] + (value - before[-1]).detach() if before else value

    def _opens(self, name: str) -> bool:
        """Note a cut, and return whether it is to be mended."""
        where = place()
        self.cuts.setdefault(where, name)
        return self.only in (None, where)

    def _tied(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Return a new tensor, tied to what it is made of."""
        made = func(*args, **{name: value for name, value in kwargs.items() if name != "requires_grad"})
        tied = self._tie(made)
        return tied if tied is not made else func(*args, **kwargs)
