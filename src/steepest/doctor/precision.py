"""Contexts for replays: all in single precision, and functions that stay inside of where they are finite."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from steepest.doctor.data import mapped
from steepest.doctor.replay import Change
from steepest.doctor.twin import Twin

HALVES = (torch.float16, torch.bfloat16)
TINY = 1e-6


class Single(TorchFunctionMode):
    """What would make half precision makes single instead."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("half", "bfloat16") and args:
            return args[0].float()
        args = [torch.float32 if _is_half(each) else each for each in args]
        kwargs = {key: torch.float32 if _is_half(value) else value for key, value in (kwargs or {}).items()}
        if (
            name in ("to", "type", "type_as")
            and len(args) > 1
            and isinstance(args[1], Tensor)
            and _is_half(args[1].dtype)
        ):
            return args[0].float()
        return func(*args, **kwargs)


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in HALVES


@contextmanager
def single() -> Iterator[None]:
    """Compute in single precision: without autocast, and half precision that is asked for is not made."""
    kind: Any = torch.amp.autocast_mode.autocast
    enter, leave = kind.__enter__, kind.__exit__
    kind.__enter__ = lambda self: self
    kind.__exit__ = lambda self, *error: None
    try:
        with torch.autocast("cpu", enabled=False), Single():
            yield
    finally:
        kind.__enter__, kind.__exit__ = enter, leave


def widened(twin: Twin) -> None:
    """Make weights, buffers and the optimizer's state of a copy single."""
    for each in (*twin.model.parameters(), *twin.model.buffers()):
        if each.dtype in HALVES:
            each.data = each.data.float()
    for state in twin.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dtype in HALVES:
                state[name] = value.float()


def wide(batch: Any) -> Any:
    """Return a batch whose halves are single."""
    return mapped(batch, lambda each: each.float() if each.dtype in HALVES else each)


IN_SINGLE = Change("all in single precision", prepare=widened, batch=wide, inside=single)
"""A replay in which nothing is rounded to half precision."""


def _positive(value: Tensor) -> Tensor:
    return value.clamp(min=TINY)


def _within_one(value: Tensor) -> Tensor:
    return value.clamp(-1 + TINY, 1 - TINY)


def _not_zero(value: Tensor) -> Tensor:
    value = value if value.is_floating_point() else value.float()
    return torch.where(value.abs() < TINY, torch.full_like(value, TINY), value)


def _moderate(value: Tensor) -> Tensor:
    return value.clamp(max=50.0)


INSIDE = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "rsqrt", "xlogy"), _positive),
    **dict.fromkeys(("acos", "asin", "arccos", "arcsin", "atanh", "arctanh"), _within_one),
    **dict.fromkeys(("exp", "exp2", "expm1", "cosh", "sinh"), _moderate),
    "reciprocal": _not_zero,
    "log1p": lambda value: value.clamp(min=-1 + TINY),
    "acosh": lambda value: value.clamp(min=1 + TINY),
    "logit": lambda value: value.clamp(TINY, 1 - TINY),
}
"""Function -> what keeps its input where it and its derivative are finite."""

DIVISIONS = ("div", "divide", "true_divide", "__truediv__", "__rtruediv__", "__rdiv__", "div_", "__itruediv__")
POWERS = ("pow", "__pow__", "float_power", "norm", "vector_norm", "cdist", "std", "var", "cosine_similarity")
OTHERS = ("softmax", "log_softmax", "cross_entropy", "nll_loss", "mean", "scaled_dot_product_attention", "__rpow__")

DOMAIN = {*INSIDE, *DIVISIONS, *POWERS, *OTHERS, "normalize", "logsumexp"}
"""What can be not finite where all that it is given is finite, and of ordinary size."""


class Inside(TorchFunctionMode):
    """Keeps what functions are given where they are finite; what is not finite all the same becomes 0."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in INSIDE and args and isinstance(args[0], Tensor):
            place = 1 if name == "xlogy" and len(args) > 1 and isinstance(args[1], Tensor) else 0
            args = (*args[:place], INSIDE[name](args[place]), *args[place + 1 :])
        elif name in DIVISIONS and len(args) > 1:
            place = 0 if name in ("__rtruediv__", "__rdiv__") else 1
            if isinstance(args[place], Tensor):
                args = (*args[:place], _not_zero(args[place]), *args[place + 1 :])
        elif name in POWERS and args and isinstance(args[0], Tensor) and name not in ("cdist", "std", "var"):
            args = (_apart(args[0]) if name in ("pow", "__pow__", "float_power") else args[0] + TINY, *args[1:])
        elif name in ("cdist", "std", "var") and args and isinstance(args[0], Tensor):
            args = (args[0] + torch.linspace(0, TINY, args[0].numel()).reshape(args[0].shape).to(args[0]), *args[1:])
        output = func(*args, **kwargs)
        return torch.nan_to_num(output) if name in OTHERS and isinstance(output, Tensor) else output


def _apart(value: Tensor) -> Tensor:
    return torch.where(value.abs() < TINY, value + TINY, value) if value.is_floating_point() else value
