"""The gradient noise scale, read off the running means of optimizers."""

import math

import pytest
import torch
from torch import nn

from steepest import groups
from steepest.fit import fit
from steepest.optim import Muon
from steepest.pilot.noise import Noise
from steepest.pilot.repeats import Watched


def watched(rows):
    source = Watched.__new__(Watched)
    source.rows = rows
    return source


def read(signal, deviation, rows=10, updates=600):
    """Feed gradients of a known mean and deviation to an optimizer that does not move, and read it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 30))
    optimizer = Muon(groups(model, lr=0.0))
    noise = Noise(optimizer, watched(rows))
    for step in range(1, updates + 1):
        for parameter in model.parameters():
            parameter.grad = signal + deviation * torch.randn_like(parameter)
        optimizer.step()
        if step % 10 == 0:
            noise.read(step)
    return noise


@pytest.mark.parametrize("deviation", [0.3, 1.0, 3.0])
def test_noise_and_signal_are_told_apart(deviation):
    """By hand: noise and signal have the squares deviation^2 and 1 for each number; the scale is rows times that."""
    assert read(1.0, deviation).scale() == pytest.approx(10 * deviation**2, rel=0.1)


def test_without_signal_or_noise():
    assert read(0.0, 1.0, updates=2000).scale() > 1000
    assert read(1.0, 0.0).scale() == pytest.approx(0.0, abs=1e-4)
    assert read(1.0, 1.0, updates=10).scale() is None
    assert str(read(1.0, 1.0, updates=10)) == ""


def test_where_a_batch_stands_is_said():
    noise = read(1.0, 1.0)
    for rows, advice in ((1, "begin to be wasted"), (10, "begin to be wasted")):
        noise._source.rows = rows
        assert advice in str(noise)
    noise._signal = noise._noise / 100
    assert "need fewer steps" in str(noise)
    noise._signal = noise._noise * 100
    assert "hardly more steps" in str(noise)
    noise._signal = -1.0
    assert noise.scale() == math.inf
    assert "more than can be told" in str(noise)


def test_a_run_by_the_pilot_tells_it(capsys):
    torch.manual_seed(0)
    data = torch.randn(4096, 5), torch.randn(4096, 1)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
    result = fit(model, lambda m, batch: (m(batch[0]) - batch[1]).square().mean(), data, batch_size=4, steps=400)
    assert result.noise_scale > 8  # the targets are noise
    assert "need fewer steps" in capsys.readouterr().out
