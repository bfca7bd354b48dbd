"""Folded weights move as if every input had mean 0 and deviation 1, to rounding."""

import copy

import pytest
import torch
from torch import nn

from steepest.kernels import pool
from steepest.optim import AdamW
from steepest.pilot import build, folding, measure
from steepest.pilot.folding import Fold, Folding, Inputs

STEPS = 60


def mse(model, batch):
    x, y = batch
    out = model(x)
    out = out[0] if isinstance(out, tuple) else out
    return nn.functional.mse_loss(out.flatten(1).mean(1), y)


SCALES = torch.tensor([1.0, 10.0, 100.0, 1e3, 0.1, 3.0])
MEANS = torch.tensor([3.0, 0.0, 50.0, -1e3, 1.0, 2.0])


def along(values, dimensions, axis):
    return values.reshape([-1 if place == axis else 1 for place in range(dimensions)])


LAYERS = {
    "linear": (lambda: nn.Linear(6, 3), (64, 6), 1),
    "linear on sequences": (lambda: nn.Linear(6, 3), (16, 5, 6), 2),
    "without bias": (lambda: nn.Linear(6, 3, bias=False), (64, 6), 1),
    "convolution": (lambda: nn.Conv2d(6, 4, 3), (8, 6, 5, 5), 1),
    "grouped convolution": (lambda: nn.Conv1d(6, 4, 3, groups=2), (16, 6, 8), 1),
}


@pytest.mark.parametrize(("make", "shape", "axis"), LAYERS.values(), ids=LAYERS)
def test_a_folded_layer_learns_what_it_would_from_inputs_in_units_of_one(make, shape, axis):
    layer = make().double()
    has_bias = layer.bias is not None
    means = MEANS if has_bias else torch.zeros(6)
    raw = torch.randn(shape, dtype=torch.float64) * along(SCALES, len(shape), axis) + along(means, len(shape), axis)
    target = torch.randn(shape[0], dtype=torch.float64)
    inputs = Inputs(layer)
    inputs.add(raw)
    (fold,) = inputs.folds()
    other = [place for place in range(len(shape)) if place != axis]
    mean = raw.mean(other) if has_bias else torch.zeros(6)
    deviation = raw.std(other, correction=0) if has_bias else raw.square().mean(other).sqrt()
    clean = (raw - along(mean, len(shape), axis)) / along(deviation, len(shape), axis)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        if has_bias:
            twin.bias += fold.shifted(twin.weight)
        twin.weight *= fold.scale
    ours, theirs = (AdamW(each.parameters(), lr=0.05, weight_decay=0.1) for each in (layer, twin))
    Folding([fold]).attach(ours)
    for step in range(STEPS):
        for model, optimizer, x in ((layer, ours, raw), (twin, theirs, clean)):
            optimizer.zero_grad()
            loss = mse(model, (x, target))
            loss.backward()
            optimizer.step()
        assert mse(layer, (raw, target)).item() == pytest.approx(mse(twin, (clean, target)).item(), rel=1e-6), step


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("make", "shape", "axis"), LAYERS.values(), ids=LAYERS)
def test_the_compiled_passes_do_what_torch_does(make, shape, axis, threads, monkeypatch):
    monkeypatch.setattr(pool, "SMALL", 1)
    raw = torch.randn(shape) * along(SCALES, len(shape), axis) + along(MEANS, len(shape), axis)
    target, first = torch.randn(shape[0]), make()
    ends = []
    before = torch.get_num_threads()
    try:
        for compiled in (True, False):
            torch.set_num_threads(threads)
            monkeypatch.setattr(folding, "unsupported", lambda p, known=compiled: "" if known else "the test")
            layer = copy.deepcopy(first)
            inputs = Inputs(layer)
            inputs.add(raw)
            folds = inputs.folds()
            optimizer = AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)
            Folding(folds).attach(optimizer)
            for _ in range(STEPS):
                optimizer.zero_grad()
                mse(layer, (raw, target)).backward()
                optimizer.step()
            assert (folds[0].passes is not None) == compiled
            ends.append([p.detach() for p in layer.parameters()])
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3 * theirs.abs().max().item())


def test_a_copy_of_an_optimizer_folds_its_own_weights():
    layer, x = nn.Linear(3, 2), torch.randn(20, 3) * 100
    choice = build(layer, measure(layer, mse, [(x, torch.randn(20))], 100))
    mse(layer, (x, torch.ones(20))).backward()
    choice.optimizer.step()
    twin, optimizer = copy.deepcopy((layer, choice.optimizer))
    before = copy.deepcopy(layer.state_dict())
    mse(twin, (x, torch.ones(20))).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    for p, p_twin in zip(layer.parameters(), twin.parameters(), strict=True):
        p.grad = None
        assert not torch.equal(p, p_twin)
    mse(layer, (x, torch.ones(20))).backward()
    choice.optimizer.step()
    assert all(map(torch.equal, layer.parameters(), twin.parameters()))


def test_the_statistics_survive_as_plain_numbers():
    layer = nn.Conv1d(6, 4, 3, groups=2)
    inputs = Inputs(layer)
    inputs.add(torch.randn(10, 6, 5) * SCALES[:, None] + MEANS[:, None])
    (fold,) = inputs.folds()
    again = Fold.of(layer.weight, layer.bias, **fold.plain())
    assert torch.equal(again.scale, fold.scale)
    assert torch.equal(again.mean, fold.mean)
    assert torch.equal(again.inverse, fold.inverse)


def test_weights_of_an_input_that_never_changes_stay():
    layer, x = nn.Linear(3, 2), torch.randn(20, 3)
    x[:, 1] = 7.0
    before = layer.weight.detach().clone()
    choice = build(layer, measure(layer, mse, [(x, torch.randn(20))], 100))
    for _ in range(3):
        mse(layer, (x, torch.ones(20))).backward()
        choice.optimizer.step()
    assert torch.equal(layer.weight[:, 1], before[:, 1])
    assert not torch.equal(layer.weight[:, 0], before[:, 0])


def test_what_is_rarely_not_zero_is_not_taken_for_small():
    def scales(rows, rare):
        inputs = Inputs(nn.Linear(5, 2))
        x = torch.randn(rows, 5) * torch.tensor([1.0, 1.0, 1e-3, 2.0, 1.0])
        x[:, 4] = 0
        x[:rare, 4] = 1e-4
        inputs.add(x)
        return torch.tensor(inputs.folds()[0].plain()["scale"][0])

    assert scales(256, 1)[4] == pytest.approx(1, rel=0.2)
    assert scales(256, 1)[2] == pytest.approx(1e-3, rel=0.2)
    assert scales(256, 20)[4] == pytest.approx(1e-4 * (20 / 256) ** 0.5, rel=0.1)
    assert scales(16, 1)[4] < 1e-4
    assert scales(256, 0)[4] == 0


def test_a_step_that_is_skipped_moves_nothing():
    layer, x = nn.Linear(3, 2), torch.randn(20, 3) * 100
    choice = build(layer, measure(layer, mse, [(x, torch.randn(20))], 100))
    before = copy.deepcopy(layer.state_dict())
    (mse(layer, (x, torch.ones(20))) * float("nan")).backward()
    choice.optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
