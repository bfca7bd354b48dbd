"""What the generators stand at when a batch is given out, read at each batch."""

import ctypes
import random
from typing import Any

import numpy as np
import torch

SIZE = 625 * 4
"""Bytes of a Mersenne twister: 624 words and a place among them."""


class Drawn:
    """Reads the generators as `steepest.snapshot.generators` does, NumPy's only where it has been drawn from.

    That one takes 30 microseconds to read. Its memory is compared in half of one. A second normal number that NumPy has
    in store is not in that memory: while there is one, it is read each time.
    """

    def __init__(self) -> None:
        self._memory = b""
        self._numpy: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """Return the states, which are not to be written to."""
        return {
            "python": random.getstate(),
            "numpy": self._read_numpy(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }

    def _read_numpy(self) -> dict[str, Any]:
        memory = _memory()
        if memory is None or memory != self._memory or self._numpy["has_gauss"]:
            state = np.random.get_state(legacy=False)
            assert isinstance(state, dict)
            self._memory, self._numpy = memory or b"", state
        return self._numpy


def _memory() -> bytes | None:
    """Return what NumPy's global generator has in memory; None where it has been replaced by one of another kind."""
    own = np.random.get_bit_generator()  # pyright: ignore[reportAttributeAccessIssue]
    return ctypes.string_at(own.ctypes.state_address, SIZE) if isinstance(own, np.random.MT19937) else None
