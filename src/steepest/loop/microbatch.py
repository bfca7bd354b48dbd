"""One update from parts of its batch: sums and counts, so that the parts give the gradient of the whole."""

import gc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from steepest.data import count_samples


class Microbatch:
    """How many samples go through the model at once. size: None for the whole batch, a number, or "auto".

    "auto" begins with the whole batch; when memory runs out, the size is halved and the same update made again. What
    has been found holds for the rest of the run.
    """

    def __init__(self, size: int | str | None) -> None:
        if size is not None and size != "auto" and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(f'microbatch is a number of samples, 1 or more, "auto" or None; received {size!r}.')
        self.automatic = size == "auto"
        self.size: int | None = None if isinstance(size, str) else size

    def parts(self, batch: Any) -> list[tuple[Any, int]]:
        """Return the parts of a batch, with the number of samples in each where there are several."""
        if self.size is None:
            return [(batch, 1)]  # a part without others needs no weight, and counting takes time
        samples = count_samples(batch)
        if samples <= self.size:
            return [(batch, samples)]
        starts = range(0, samples, self.size)
        return [(_cut(batch, samples, start, start + self.size), min(self.size, samples - start)) for start in starts]

    def shrink(self, batch: Any) -> bool:
        """Halve the size, after memory ran out for this batch; return False when it is 1 already."""
        tried = min(self.size or count_samples(batch), count_samples(batch))
        if tried <= 1:
            return False
        self.size = -(-tried // 2)
        return True


def _cut(batch: Any, samples: int, start: int, stop: int) -> Any:
    """Return the part of every array that has one row for each sample; what has not is given to every part."""
    if isinstance(batch, torch.Tensor | np.ndarray):
        return batch[start:stop] if batch.ndim and batch.shape[0] == samples else batch
    if isinstance(batch, Mapping):
        return {key: _cut(value, samples, start, stop) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_cut(part, samples, start, stop) for part in batch))
    if isinstance(batch, tuple):
        return tuple(_cut(part, samples, start, stop) for part in batch)
    if isinstance(batch, list):
        if len(batch) == samples and not any(isinstance(part, torch.Tensor | np.ndarray) for part in batch):
            return batch[start:stop]  # one text, or one number, for each sample
        return [_cut(part, samples, start, stop) for part in batch]
    return batch


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def release_memory() -> None:
    """Give back what the failed attempt held."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Mean:
    """The weighted mean of numbers that come in parts, by name; tensors stay on their device."""

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}
        self.weight: Any = 0

    def add(self, values: Mapping[str, Any], weight: Any) -> None:
        """Add the means of a part, which is worth so much."""
        for name, value in values.items():
            self._totals[name] = self._totals.get(name, 0.0) + value * weight
        self.weight = self.weight + weight

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield each name with its mean."""
        for name, total in self._totals.items():
            yield name, total / self.weight
