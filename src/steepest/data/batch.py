"""What can be said about a batch and done with it, whatever its shape: tensors in tuples, lists and dicts."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def describe(batch: Any) -> str:
    """Return the batch in words for an error message: `(float32[32, 10], int64[32])`."""
    if isinstance(batch, torch.Tensor | np.ndarray):
        return f"{str(batch.dtype).removeprefix('torch.')}{list(batch.shape)}"
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{key!r}: {describe(value)}" for key, value in batch.items()) + "}"
    if isinstance(batch, tuple | list):
        left, right = "()" if isinstance(batch, tuple) else "[]"
        more = ", ..." if len(batch) > 8 else ""
        return left + ", ".join(describe(part) for part in batch[:8]) + more + right
    return type(batch).__name__


def count_samples(batch: Any) -> int:
    """Return the number of samples: the first axis of the first array; of a list without arrays, its length; else 1."""
    rows = next((int(leaf.shape[0]) for leaf in _arrays(batch) if leaf.ndim), None)
    if rows is None:
        return len(batch) if isinstance(batch, list) else 1
    return rows


def to_device(batch: Any, device: torch.device) -> Any:
    """Return the batch with its tensors on the device; everything that is not a tensor stays as it is."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(part, device) for part in batch))
    if isinstance(batch, tuple | list):
        return type(batch)(to_device(part, device) for part in batch)
    return batch


def _arrays(batch: Any) -> Iterator[Any]:
    if isinstance(batch, torch.Tensor | np.ndarray):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _arrays(value)
    elif isinstance(batch, tuple | list):
        for part in batch:
            yield from _arrays(part)
