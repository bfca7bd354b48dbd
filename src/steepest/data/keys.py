"""Numbers that look random and are a pure function of what they are asked for."""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MASK = 2**64 - 1


def key(*numbers: int) -> int:
    """Return 64 bits that depend on every number, their order and how many they are.

    Each number goes through the finisher of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators", 2014). The arithmetic is ours, so no release of Python, NumPy or PyTorch changes an order of samples.
    """
    state = len(numbers)
    for number in numbers:
        state = _mix((state ^ _mix(number & MASK)) + GOLDEN & MASK)
    return state


def keys(base: int, numbers: np.ndarray) -> np.ndarray:
    """Return for each number 64 bits that depend on the base and on it."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN) ^ np.uint64(base)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(SECOND)
    return mixed ^ (mixed >> np.uint64(31))


def _mix(number: int) -> int:
    number = (number ^ (number >> 30)) * FIRST & MASK
    number = (number ^ (number >> 27)) * SECOND & MASK
    return number ^ (number >> 31)
