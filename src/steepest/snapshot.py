"""What a run consists of besides model, optimizer and data: random number generators, buffers that nobody saves."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


def generators() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and PyTorch's generators, as each of them gives it."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def random_state() -> dict[str, Any]:
    """Return the same as a tree of numbers, text and tensors, fit for a checkpoint."""
    state = generators()
    return {**state, "numpy": _with_keys(state["numpy"], lambda keys: torch.from_numpy(keys.astype(np.int64)))}


def restore_random_state(state: dict[str, Any]) -> None:
    """Put every generator back to where `generators` or `random_state` found it."""
    python = state["python"]
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state(_with_keys(state["numpy"], lambda keys: np.asarray(keys).astype(np.uint32, copy=False)))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _with_keys(state: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a state of NumPy's generator with its words changed; one of another kind than usual has none."""
    own = state["state"]
    return {**state, "state": {"key": change(own["key"]), "pos": int(own["pos"])}} if "key" in own else state


def hidden_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that the model's own `state_dict` leaves out; a run that goes on needs them too."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def restore_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Fill the buffers that `hidden_buffers` gave."""
    own = dict(model.named_buffers())
    for name, value in buffers.items():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)


@contextmanager
def same_random_state_after() -> Iterator[None]:
    """Leave the generators as if the body had not run."""
    state = generators()
    try:
        yield
    finally:
        restore_random_state(state)


def seed_everything(seed: int) -> None:
    """Start Python's, NumPy's and PyTorch's generators from one seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # NumPy takes 32 bits
    torch.manual_seed(seed)


@contextmanager
def only_deterministic() -> Iterator[None]:
    """Allow only operators that give the same numbers each time; PyTorch raises an error that names one that cannot."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # asked for by cuBLAS, read when it starts
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
