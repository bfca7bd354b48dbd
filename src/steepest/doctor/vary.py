"""The model asked with other inputs: which rows and places of what it gives hang on which of what it is given."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from steepest.doctor.anatomy import Anatomy
from steepest.doctor.data import mapped
from steepest.doctor.history import tensors
from steepest.snapshot import restore_random_state

Change = Callable[[Tensor], Tensor]


def asked(seen: Anatomy, change: Change | None = None, model: nn.Module | None = None) -> list[Tensor]:
    """Return what the model gives for what it was given, with each tensor of that changed; its random numbers stay.

    What a model in double precision makes for itself, such as a first state, is made in double precision.
    """
    if seen.given is None:
        return []
    model = model or seen.model
    args, kwargs = seen.given
    restore_random_state(seen.of.random)
    same: Change = lambda each: each.detach()  # noqa: E731
    with torch.no_grad(), made_in(next((each.dtype for each in model.parameters()), torch.float32)):
        output = model(*mapped(args, change or same), **mapped(kwargs, change or same))
    return [each.detach().clone() for each in tensors(output)]


@contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """Make new tensors in double precision where that is the dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype if dtype == torch.float64 else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def double(seen: Anatomy) -> tuple[nn.Module, Change]:
    """Return the model in double precision, and what makes tensors so."""
    model = copy.deepcopy(seen.model).double()
    return model, lambda each: each.detach().double() if each.is_floating_point() else each.detach()


def evaluating(seen: Anatomy) -> nn.Module:
    """Return the model in evaluation mode."""
    return copy.deepcopy(seen.model).eval()


def noise(each: Tensor, size: float) -> Tensor:
    """Return other numbers of the same make: random ones of such a size, or others from the range of whole ones."""
    if each.is_floating_point():
        return size * torch.randn_like(each)
    if each.dtype == torch.bool or each.numel() == 0:
        return each
    low, high = int(each.min()), int(each.max())
    return torch.randint(low, high + 1, each.shape, dtype=each.dtype, device=each.device)


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """Return by how many of its deviations the first float of the outputs has changed at most; 0 if not at all."""
    pairs = [(a, b) for a, b in zip(one, other, strict=False) if a.shape == b.shape and a.is_floating_point()]
    return max((_apart(a, b) for a, b in pairs), default=0.0)


def _apart(one: Tensor, other: Tensor) -> float:
    if one.numel() < 2:
        return float((one - other).abs().max()) if one.numel() else 0.0
    return float((one - other).abs().max() / one.float().std().clamp(min=1e-30))
