"""Batches of samples that can be asked for in any order."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from steepest.data.order import Order
from steepest.data.workers import Crew


class Reader(Protocol):
    """Gives any of its samples. A reader that goes to worker processes is pickled or forked."""

    samples: int

    def read(self, epoch: int, index: np.ndarray) -> Any:
        """Return a batch of the samples with these numbers: the same one whenever it is asked for."""
        ...

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        ...


class Samples:
    """Every sample once in an epoch, in an order that is a pure function of seed and epoch.

    The last batch is short when they do not divide. workers: processes that read ahead; 0: it is done here.
    """

    def __init__(self, reader: Reader, batch_size: int, seed: int | None, workers: int = 0) -> None:
        self.samples: int | None = reader.samples
        self.batches: int | None = -(-reader.samples // batch_size)
        self.say: Callable[[str], None] = lambda sentence: None  # there is never a need to
        self._reader, self._batch_size, self._seed = reader, batch_size, seed
        self._crew = Crew(reader.read, workers) if workers else None

    def epoch(self, number: int, start: int = 0) -> Iterator[Any]:
        """Yield the batches of one epoch from batch `start` on."""
        if self._crew is not None:
            yield from self._crew.run(lambda: self._requests(number, start))
            return
        for epoch, index in self._requests(number, start):
            yield self._reader.read(epoch, index)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: seed, epoch and position say it all."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing up."""

    def signature(self) -> dict[str, Any]:
        """Return plain data that says what data this is."""
        return self._reader.signature()

    def close(self) -> None:
        """End the worker processes; the next epoch would start new ones."""
        if self._crew is not None:
            self._crew.close()

    def _requests(self, number: int, start: int) -> Iterator[tuple[int, np.ndarray]]:
        order = Order(self._reader.samples, self._seed, number)
        for first in range(start * self._batch_size, self._reader.samples, self._batch_size):
            yield number, order.take(first, self._batch_size)
