"""Whether samples come again: what is seen once cannot be learned by heart.

The samples of the first batches are known by a number each, made of all their values. When half of them have come
again, the data are finite, and the run goes over them so many times. Samples that are changed each time, as by
augmentation, do not come again.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steepest.data import Source, count_samples

ENOUGH = 32
"""So many different samples are waited for; fewer where an epoch holds fewer."""

GOLDEN = -7046029254386353131
"""The bits of the golden ratio, as a factor that spreads numbers (Knuth, The Art of Computer Programming 3, 6.4)."""

LITTLE, KEEP = 0.05, 0.8
"""Of the first loss, and of the mean of recent ones at each new one."""

LOOKED_AT = 64
"""Numbers of a sample's tensor that are looked at, evenly spread."""


class Repeats:
    """Takes in batches until it is known that samples come again; `samples`: how many that took.

    first, recent: training losses, of the first step and about now; None where none was heard.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.first: float | None = None
        self.recent: float | None = None
        self.known = False
        self._waiting: set[int] = set()
        self._again = 0
        self._full = False

    def look(self, batch: Any) -> bool:
        """Take in a batch; return whether it is known since this one that samples come again."""
        self.samples += count_samples(batch)
        own = keys(batch)
        again = self._waiting & own
        self._waiting -= again
        self._again += len(again)
        if not self._full:
            self._waiting |= own - again
            self._full = len(self._waiting) + self._again >= ENOUGH or bool(again)
        self.known = self._again > 0 and self._again >= len(self._waiting)
        return self.known

    def hear(self, loss: float) -> None:
        """Take in a training loss."""
        self.first = loss if self.first is None else self.first
        self.recent = loss if self.recent is None else KEEP * self.recent + (1 - KEEP) * loss

    @property
    def learned(self) -> bool:
        """Whether nearly all of a positive loss is gone, so that what was learned fits samples never seen before."""
        return self.first is not None and self.recent is not None and 0 <= self.recent < LITTLE * self.first

    def state_dict(self) -> dict[str, Any]:
        """Return what is known as plain data."""
        return {
            "first": self.first, "recent": self.recent,
            "samples": self.samples, "known": self.known, "again": self._again, "full": self._full,
            "waiting": sorted(self._waiting),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self.samples, self.known, self._again = state["samples"], state["known"], state["again"]
        self._full, self._waiting = state["full"], set(state["waiting"])
        self.first, self.recent = state["first"], state["recent"]


class Watched:
    """A source whose batches are looked at. Once samples are known to come again, what `found` returns is said.

    newest: the newest batch. found: takes what was seen; None where it does not matter.
    """

    def __init__(self, source: Source, found: Callable[[Repeats], str] | None) -> None:
        self._source, self._found = source, found
        self.batches, self.samples, self.say = source.batches, source.samples, source.say
        self.repeats = Repeats()
        self.newest: Any = None

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        self._source.say = self.say
        for batch in self._source.epoch(number, start):
            self.newest = batch
            if self._found is not None and not self.repeats.known and self.repeats.look(batch):
                self.say(self._found(self.repeats))
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the source, and what is known of its samples."""
        return {"source": self._source.state_dict(), "repeats": self.repeats.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where `state_dict` was taken."""
        self._source.load_state_dict(state["source"])
        self.repeats.load_state_dict(state["repeats"])

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        return self._source.signature()

    def close(self) -> None:
        """Close the source."""
        self._source.close()


def keys(batch: Any) -> set[int]:
    """Return a number for each sample, the same for equal samples; none where no tensors share a first axis."""
    tensors = [leaf for leaf in _tensors(batch) if leaf.ndim and not leaf.is_sparse]
    if not tensors:
        return set()
    rows = len(tensors[0])
    total = torch.zeros(rows, dtype=torch.int64)
    for number, tensor in enumerate(each for each in tensors if len(each) == rows):
        values = _bits(tensor)
        values = values[:, :: max(1, -(-values.shape[1] // LOOKED_AT))].to("cpu", torch.int64)
        places = torch.arange(1, values.shape[1] + 1) + LOOKED_AT * number
        total += (values * (places * GOLDEN | 1)).sum(1)  # wraps around
    return set(total.tolist())


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch.detach()
    elif isinstance(batch, np.ndarray) and batch.dtype.kind in "biufc":
        yield torch.from_numpy(batch)
    elif isinstance(batch, Mapping):
        yield from chain.from_iterable(_tensors(value) for value in batch.values())
    elif isinstance(batch, tuple | list):
        yield from chain.from_iterable(_tensors(part) for part in batch)


_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


def _bits(tensor: Tensor) -> Tensor:
    """Return the values as whole numbers, (rows, values), so that equal means equal."""
    flat = tensor.resolve_conj().resolve_neg().reshape(len(tensor), -1)
    return flat.contiguous().view(_WHOLE[flat.element_size()])
