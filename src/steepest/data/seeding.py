"""Random numbers of a sample: the same wherever and whenever it is asked for."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from steepest.data.keys import key, keys


def sample_seeds(seed: int | None, epoch: int, index: np.ndarray) -> list[int]:
    """Return a seed of 64 bits for each sample. Without a seed of the run they are those of seed 0."""
    return keys(key(seed or 0, epoch, 1), index).tolist()


def start_generators(seed: int) -> None:
    """Start Python's, NumPy's and PyTorch's CPU generators; a tenth of the time that torch.manual_seed takes."""
    random.seed(seed)
    np.random.seed(seed >> 32)  # NumPy takes 32 bits
    torch.default_generator.manual_seed(seed)


@contextmanager
def same_generators_after() -> Iterator[None]:
    """Leave the generators that `start_generators` starts as if the body had not run."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(pytorch)
