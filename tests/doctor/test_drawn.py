"""What is read of the generators at each batch is what they stand at."""

import random

import numpy as np
import pytest
import torch

from steepest.doctor.drawn import Drawn
from steepest.snapshot import generators, random_state, restore_random_state

DRAWS = {
    "nothing": lambda: None,
    "a number": np.random.rand,
    "one of two normal numbers": np.random.randn,
    "many": lambda: np.random.rand(2000),
    "another seed": lambda: np.random.seed(7),
    "python's": random.random,
    "torch's": lambda: torch.rand(3),
}


def drawn() -> list[float]:
    """Return the next numbers of all generators."""
    return [random.random(), *np.random.randn(3).tolist(), np.random.rand(), *torch.rand(2).tolist()]


@pytest.mark.parametrize("between", DRAWS)
def test_a_state_that_was_read_gives_the_same_numbers_again(between: str) -> None:
    np.random.seed(0)
    reader = Drawn()
    reader.read()
    for _ in range(3):
        DRAWS[between]()
        state, exact = reader.read(), generators()
        numbers = drawn()
        restore_random_state(state)
        assert drawn() == numbers
        restore_random_state(exact)


def test_a_state_is_not_read_again_where_numpy_was_not_asked() -> None:
    np.random.seed(0)
    reader = Drawn()
    assert reader.read()["numpy"] is reader.read()["numpy"]
    np.random.rand()
    assert reader.read()["numpy"]["state"]["pos"] == generators()["numpy"]["state"]["pos"]


def test_another_generator_in_numpys_place_is_read_each_time() -> None:
    before = np.random.get_bit_generator()  # pyright: ignore[reportAttributeAccessIssue]
    np.random.set_bit_generator(np.random.PCG64(3))
    try:
        reader = Drawn()
        reader.read()
        before_drawing = random_state()
        number = np.random.random_sample()
        restore_random_state(before_drawing)
        assert np.random.random_sample() == number
        assert reader.read()["numpy"]["state"] == np.random.get_state(legacy=False)["state"]
    finally:
        np.random.set_bit_generator(before)  # pyright: ignore[reportAttributeAccessIssue]
