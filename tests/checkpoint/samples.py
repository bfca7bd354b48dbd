"""Trees to save, and how two of them are compared."""

import struct

import torch
from torch import nn

from steepest.checkpoint.dtypes import BY_NAME
from steepest.snapshot import random_state


def trained():
    """A small model and optimizer after a step, with the state of every random number generator."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": random_state(),
        "ema": {"0.weight": torch.randn(200, 100)},
        "position": {"step": 7, "best": float("inf")},
    }


def of_step(step):
    """A tree from whose content its step can be told."""
    return {"model": {"w": torch.full((50, 40), float(step))}, "optimizer": {"m": torch.full((3,), step)}, "step": step}


def holds(tree, step):
    """Whether a tree is that of `of_step`."""
    return same(tree, of_step(step))


def every_dtype():
    """A tensor of every dtype, with whatever bits."""
    bits = torch.randint(0, 256, (4, 16), dtype=torch.uint8)
    tensors = {name: bits.view(dtype) for name, dtype in BY_NAME.items() if name not in ("bool", "complex32")}
    return tensors | {"bool": bits > 100}


def same(one, other):
    """Whether two values are equal in type and in every bit; a parameter is as good as a tensor."""
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and bits(one) == bits(other)
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            same(key, twin) and same(one[key], other[twin]) for key, twin in zip(one, other, strict=True)
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return one == other


def bits(tensor):
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().flatten()
    return plain.view(torch.uint8).numpy().tobytes()
