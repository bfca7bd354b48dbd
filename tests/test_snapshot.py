"""The state of random number generators is taken and given back, all of them."""

import io
import random

import numpy as np
import pytest
import torch

from steepest.snapshot import random_state, restore_random_state, same_random_state_after, seed_everything


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item(), random.gauss(0, 1), np.random.randn()


def test_drawing_goes_on_as_if_nothing_had_been():
    draw()
    state = random_state()
    first = draw()
    assert draw() != first
    restore_random_state(state)
    assert draw() == first


def test_the_state_survives_a_file_that_may_hold_no_code():
    file = io.BytesIO()
    torch.save(random_state(), file)
    first = draw()
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert draw() == first


def test_a_block_leaves_no_trace_even_when_it_fails():
    state = random_state()
    first = draw()
    restore_random_state(state)
    with pytest.raises(ZeroDivisionError), same_random_state_after():
        _ = draw()[0] / 0
    assert draw() == first


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**62])
def test_a_seed_starts_every_generator(seed):
    seed_everything(seed)
    first = draw()
    seed_everything(seed)
    assert draw() == first
    seed_everything(seed + 1)
    assert all(a != b for a, b in zip(first, draw(), strict=True))
