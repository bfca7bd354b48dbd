"""The order of samples, a pure function of seed and epoch."""

import numpy as np


def order(length: int, seed: int | None, epoch: int) -> np.ndarray:
    """Return the indices 0 to length - 1 in the order of this epoch; without a seed, as they are stored.

    The generator is counter-based (Philox, keyed by seed and epoch), so no epoch depends on the one before it.
    """
    if seed is None:
        return np.arange(length)
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(length)
