"""Worker processes that read batches ahead."""

import gc
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from steepest.data.failure import Failure

Request = tuple[int, np.ndarray]
"""What a worker is asked for: an epoch, and the numbers of the samples of one batch."""


class Crew:
    """Processes that stay from epoch to epoch, started when first needed. PyTorch's DataLoader runs them.

    They read one epoch at a time: a new one ends the one before it.
    """

    def __init__(self, read: Callable[[int, np.ndarray], Any], workers: int) -> None:
        self._read, self._workers = read, workers
        self._requests = _Requests()
        self._loader: DataLoader | None = None
        self._batches: Iterator[Any] | None = None
        self._epochs = 0

    def run(self, requests: Callable[[], Iterator[Request]]) -> Iterator[Any]:
        """Yield the batch of each request, in their order; raise what a worker raised."""
        self._requests.begin = requests
        self._epochs += 1
        mine = self._epochs
        if self._loader is None:
            self._loader = self._start()
        self._batches = iter(self._loader)
        while (batch := self._next(mine)) is not None:
            if isinstance(batch, Failure):
                self.close()
                raise batch.error()
            yield batch

    def close(self) -> None:
        """End the processes, once nothing refers to the iterator that runs them."""
        self._loader = self._batches = None

    def _start(self) -> DataLoader:
        return DataLoader(
            _Batches(self._read),
            batch_size=None,  # a request is a batch already
            sampler=self._requests,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            persistent_workers=True,
            worker_init_fn=_begin,
            generator=torch.Generator(),  # else it would draw from the global one
        )

    def _next(self, epoch: int) -> Any:
        if self._batches is None or epoch != self._epochs:
            raise RuntimeError("This epoch has ended: another one was begun, or the source was closed. Begin it again.")
        try:
            return next(self._batches, None)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            self.close()
            raise RuntimeError(
                f"A worker process that reads the data has died ({str(error).strip(' .')}). The system kills a process "
                "when memory runs out: use fewer workers. With workers=0 the dataset's own error shows."
            ) from error


class _Requests:
    """What PyTorch calls a sampler: the requests of the epoch that is begun."""

    begin: Callable[[], Iterator[Request]]

    def __iter__(self) -> Iterator[Request]:
        return self.begin()


class _Batches(Dataset):
    """What PyTorch calls a dataset: a batch, or what went wrong, for a request."""

    def __init__(self, read: Callable[[int, np.ndarray], Any]) -> None:
        self._read = read

    def __getitem__(self, request: Request) -> Any:
        try:
            return self._read(*request)
        except Exception as error:
            return Failure(error)


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(worker: int) -> None:
    """Leave signals and inherited objects to the main process.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group. The main one makes its last steps and saves then,
    for which it needs the workers; it ends them itself. Those that outlive a second SIGTERM do not.
    """
    gc.freeze()  # what a fork brought along belongs to the main process, and is not to be collected twice
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
