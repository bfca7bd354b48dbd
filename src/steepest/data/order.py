"""The order of samples, a pure function of seed and epoch that takes no memory."""

import numpy as np

from steepest.data.keys import FIRST, key

BLOCK = 8192
"""So many positions are computed at once: NumPy's cost of a call is spread over them, and they stay in the cache."""

LONGEST = 2**40


class Order:
    """The numbers 0 to length - 1, each once, in an order that seed and stream name (an epoch, say) choose.

    Without a seed they come as they are. The permutation is a Feistel network on the smallest power of two that holds
    them: one half of the bits of a position is changed by a keyed function of the other half, in turn. Results beyond
    the length go through the network again until they are inside ("cycle walking": Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002), which keeps it a permutation. Nothing is stored but the keys of the rounds.
    """

    def __init__(self, length: int, seed: int | None, *stream: int) -> None:
        if length > LONGEST:
            raise ValueError(f"There are {length} samples; an order is made for up to 2**40 of them.")
        self.length, self._seed = length, seed
        bits = max(2, (length - 1).bit_length())
        self._low = bits // 2
        self._masks = (np.uint64((1 << (bits - self._low)) - 1), np.uint64((1 << self._low) - 1))
        # Few bits mix slowly: with 8 rounds the orders of 4 samples are not equally frequent.
        rounds = 8 if bits > 16 else 24
        base = 0 if seed is None else key(seed, *stream)
        self._keys = [np.uint64(key(base, number)) for number in range(rounds)]
        self._first, self._block = 0, np.empty(0, np.int64)

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """Return the number at each of the positions."""
        if self._seed is None:
            return positions.astype(np.int64)
        numbers = self._network(positions.astype(np.uint64))
        outside = np.flatnonzero(numbers >= self.length)
        while len(outside):
            again = self._network(numbers[outside])
            numbers[outside] = again
            outside = outside[again >= self.length]
        return numbers.astype(np.int64)

    def take(self, first: int, count: int) -> np.ndarray:
        """Return the numbers at `count` positions from `first` on, fewer at the end of the order."""
        end = min(first + count, self.length)
        if self._seed is None:
            return np.arange(first, end)
        if first < self._first or end > self._first + len(self._block):
            self._first = first
            self._block = self.indices(np.arange(first, min(max(end, first + BLOCK), self.length)))
        return self._block[first - self._first : end - self._first]

    def _network(self, numbers: np.ndarray) -> np.ndarray:
        """Permute the whole power of two: the halves change in turn, each by what the other says."""
        low = np.uint64(self._low)
        halves = [numbers >> low, numbers & self._masks[1]]
        said, shifted = np.empty_like(numbers), np.empty_like(numbers)
        for number, round_key in enumerate(self._keys):
            changed = number % 2
            np.bitwise_xor(halves[1 - changed], round_key, out=said)
            for _ in range(2):
                np.multiply(said, np.uint64(FIRST), out=said)
                np.right_shift(said, np.uint64(32), out=shifted)
                np.bitwise_xor(said, shifted, out=said)
            np.bitwise_and(said, self._masks[changed], out=said)
            np.bitwise_xor(halves[changed], said, out=halves[changed])
        return (halves[0] << low) | halves[1]
