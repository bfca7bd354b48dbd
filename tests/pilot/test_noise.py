"""The gradient noise scale, from two halves of a batch."""

import math

import pytest
import torch
from torch import nn

from steepest.fit import fit
from steepest.pilot.noise import Noise


def read(signal, deviation, rows=10, readings=200):
    """Feed batches whose samples have gradients of a known mean and deviation."""
    torch.manual_seed(0)
    model = nn.Linear(200, 1, bias=False)
    noise = Noise(model, lambda batch: model(batch).mean())  # the gradient is the mean of the samples
    noise_sum = signal_sum = 0.0
    for _ in range(readings):
        noise.read(signal + deviation * torch.randn(rows, 200))
        noise_sum, signal_sum = noise_sum + noise._noise, signal_sum + noise._signal
    noise._noise, noise._signal = noise_sum, signal_sum  # the mean over all, to compare with
    return noise


@pytest.mark.parametrize(("deviation", "rows"), [(0.3, 10), (1.0, 10), (3.0, 10), (1.0, 2), (1.0, 7)])
def test_noise_and_signal_are_told_apart(deviation, rows):
    """By hand: for each number signal and noise of one sample have the squares 1 and deviation^2."""
    tolerance = 0.05 if rows % 2 == 0 else 0.1  # halves of 4 and 3 are taken for equal
    assert read(1.0, deviation, rows).scale() == pytest.approx(deviation**2, rel=tolerance)


def test_without_signal_or_noise():
    nothing = read(0.0, 1.0).scale()
    assert nothing is not None
    assert nothing > 100
    assert read(1.0, 0.0).scale() == pytest.approx(0.0, abs=1e-9)


def test_a_batch_without_halves_tells_nothing():
    noise = Noise(nn.Linear(3, 1), lambda batch: torch.zeros((), requires_grad=True))
    noise.read(torch.randn(1, 3))
    noise.read("words")
    assert noise.scale() is None
    assert str(noise) == ""


def test_where_a_batch_stands_is_said():
    noise = read(1.0, 1.0, rows=2)
    assert "begin to be wasted" in str(noise)
    noise.rows = 10
    noise._noise /= 10
    noise._signal *= 10
    assert "hardly more steps" in str(noise)
    noise._noise *= 1000
    assert "need fewer steps" in str(noise)
    noise._signal = -1.0
    assert noise.scale() == math.inf
    assert "more than can be told" in str(noise)


def mse(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


def trained(loss, steps=600):
    torch.manual_seed(0)
    data = torch.randn(4096, 5), torch.randn(4096, 1)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 1))
    return fit(model, loss, data, batch_size=4, steps=steps, log=False)


def test_a_run_by_the_pilot_tells_it_and_pays_for_it():
    calls = []

    def counted(model, batch):
        calls.append((len(batch[0]) / 4) * (1 if torch.is_grad_enabled() else 1 / 3))
        return mse(model, batch)

    result = trained(counted)
    assert result.noise_scale > 8  # the targets are noise
    assert result.plan.settings["readings"] == 5
    assert 598.9 <= sum(calls) <= 600
    assert trained(mse, steps=300).noise_scale is None


def test_reading_changes_nothing_about_training(monkeypatch):
    read = trained(mse)
    monkeypatch.setattr(Noise, "read", lambda self, batch: None)
    other = trained(mse)
    for a, b in zip(read.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_does_not_take_half_a_batch_is_let_be():
    def fixed(model, batch):
        assert len(batch[0]) == 4
        return mse(model, batch)

    assert trained(fixed).noise_scale is None
