"""Batches that someone else makes: a DataLoader, a list, a generator."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any


class Batches:
    """An iterable of batches, iterated anew each epoch; an iterator can be read only once and has no second epoch."""

    def __init__(self, iterable: Iterable[Any]) -> None:
        self.once = isinstance(iterable, Iterator)
        self.batches: int | None = _length(iterable)
        if self.batches == 0:
            kind = type(iterable).__name__
            raise ValueError(f"The data, of type {kind}, holds no batches; training needs one or more.")
        self._iterable, self._begun = iterable, False

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on; those before it are read and dropped."""
        if self.once and self._begun:
            return iter(())
        self._begun = True
        return islice(iter(self._iterable), start, None)


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except TypeError:  # a generator, or a DataLoader over a dataset that does not know its length
        return None
