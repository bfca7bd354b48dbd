"""Nets whose weights are far too large, or lose the signal on the way, are brought to unit size, and no others."""

import copy
import math

import pytest
import torch
from torch import nn

from steepest.fit import fit
from steepest.pilot import plan
from steepest.pilot.rescale import LARGE, LOST, Seen, apply, rescale, undo


def perceptron(depth=14, act: type[nn.Module] = nn.ReLU, width=32):
    layers = [each for _ in range(depth) for each in (nn.Linear(width, width), act())]
    return nn.Sequential(nn.Linear(6, width), act(), *layers, nn.Linear(width, 1))


def convolutions():
    conv = [each for _ in range(4) for each in (nn.Conv1d(8, 8, 3, padding=1), nn.GELU())]
    return nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 8, 3), *conv, nn.Flatten(), nn.Linear(32, 1))


class Residual(nn.Module):
    def __init__(self, width=32, zero=False):
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        if zero:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


def residual(zero=False):
    return nn.Sequential(
        nn.Linear(6, 32), *(Residual(zero=zero) for _ in range(12)), nn.LayerNorm(32), nn.Linear(32, 1)
    )


def normed():
    layers = [each for _ in range(6) for each in (nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU())]
    return nn.Sequential(nn.Linear(6, 32), *layers, nn.Linear(32, 1))


def begun(make, how):
    def build():
        model = make()
        for weight in model.parameters():
            if weight.ndim > 1:
                how(weight)
        return model

    return build


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(2, 32, batch_first=True), nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.recurrent(x.view(-1, 3, 2))[0][:, -1])


def last_zero():
    model = perceptron(3)
    model[-1].weight.data.zero_()
    return model


HEALTHY = {
    "deep tanh": lambda: perceptron(10, nn.Tanh),
    "deep, He": begun(lambda: perceptron(30), lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu")),
    "deep, orthogonal": begun(lambda: perceptron(30, nn.Tanh), nn.init.orthogonal_),
    "small, as GPT-2's": begun(lambda: perceptron(2, nn.GELU, 256), lambda weight: nn.init.normal_(weight, std=0.02)),
    "last layer zero": last_zero,
    "residual": residual,
    "residual, branches zero": lambda: residual(zero=True),
    "batch norm": normed,
    "convolutions": convolutions,
    "recurrent": Recurrent,
    "one layer, large": begun(lambda: nn.Linear(6, 1), lambda weight: nn.init.constant_(weight, 100.0)),
}


def data(rows=64):
    draw = torch.Generator().manual_seed(3)
    x = torch.rand(rows, 6, generator=draw) * 2 - 1
    return x, (3 * x[:, :1]).sin() + x[:, 1:2] * x[:, 2:3]


def loss(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def scaled(model, factor):
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(factor)
    return model


def asked(model):
    """Return how to ask for the loss, and what counts how often that was done."""
    calls = []

    def evaluate():
        calls.append(1)
        with torch.no_grad():
            return loss(model, data())

    return evaluate, calls


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY)
def test_healthy_nets_are_left_alone_for_the_price_of_one_forward_pass(make):
    torch.manual_seed(0)
    model = make()
    before = copy.deepcopy(dict(model.named_parameters()))
    evaluate, calls = asked(model)
    assert rescale(model, evaluate) == {}
    assert len(calls) == 1
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


LARGE_ONES = {"deep": perceptron, "residual": residual, "batch norm": normed, "convolutions": convolutions}


@pytest.mark.parametrize("make", LARGE_ONES.values(), ids=LARGE_ONES)
def test_weights_ten_times_too_large_are_brought_to_unit_size(make):
    torch.manual_seed(0)
    model = scaled(make(), 10)
    evaluate, _ = asked(model)
    before = float(evaluate())
    factors = rescale(model, evaluate)
    assert factors
    assert float(evaluate()) < min(before / 2, 10)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv1d)]
    sizes = list(Seen(layers, evaluate).sizes.values())
    assert all(0.5 < size < 2 for size in sizes[:-1])


def test_weights_so_large_that_the_loss_overflows_are_brought_to_unit_size():
    torch.manual_seed(0)
    model = scaled(perceptron(30), 1000)
    evaluate, _ = asked(model)
    assert not math.isfinite(evaluate())
    assert len(rescale(model, evaluate)) == 32
    assert float(evaluate()) < 10


@pytest.mark.parametrize(("depth", "factor"), [(30, 1), (14, 0.1)])
def test_a_signal_that_dies_on_the_way_is_kept_alive(depth, factor):
    torch.manual_seed(0)
    model = scaled(perceptron(depth), factor)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    evaluate, calls = asked(model)
    before = Seen(layers, evaluate)
    assert before.differences[-1] < LOST / 10
    rescale(model, evaluate)
    assert len(calls) == 4
    after = Seen(layers, evaluate)
    assert after.differences[-1] > 100 * LOST
    assert after.sizes[layers[-1]] <= 1.5 * before.sizes[layers[-1]]
    assert after.loss < 1.1 * before.loss


@pytest.mark.parametrize(("depth", "factor"), [(10, 10), (20, 1)])
def test_such_nets_are_trained_and_could_not_be_by_a_plan_without_it(depth, factor):
    ends = []
    for helped in (True, False):
        torch.manual_seed(0)
        model = scaled(perceptron(depth), factor)
        decided = plan(model, loss, data(512), 200, batch_size=64)
        assert any(each.what == "first weights" for each in decided.decisions)
        if not helped:
            decided.settings["rescaled"].clear()
        fit(model, loss, data(512), steps=200, batch_size=64, plan=decided, log=False)
        ends.append(float(asked(model)[0]()))
    constant = float(data()[1].var())
    assert ends[0] < 0.75 * constant
    assert ends[1] > 0.9 * constant


def test_measuring_leaves_the_weights_as_they_are_to_the_bit():
    torch.manual_seed(0)
    model = scaled(perceptron(10), 10)
    before = copy.deepcopy(model.state_dict())
    assert plan(model, loss, data(512), 200, batch_size=64).settings["rescaled"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_it_is_undone_to_the_bit_where_the_loss_does_not_fall():
    class Divided(nn.Module):
        """Divides by itself what its weights make larger: nothing is too large in it."""

        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(8))

        def forward(self, x):
            for layer in self.layers:
                x = torch.tanh(nn.functional.normalize(layer(x)))
            return x[:, :1]

    torch.manual_seed(0)
    model = scaled(Divided(), 30)
    before = copy.deepcopy(model.state_dict())
    evaluate, calls = asked(model)
    assert rescale(model, evaluate) == {}
    assert len(calls) == 3
    assert same(before, model.state_dict())


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_undone_where_the_loss_fails():
    torch.manual_seed(0)
    model = scaled(perceptron(), 10)
    before, calls = copy.deepcopy(model.state_dict()), []

    def evaluate():
        calls.append(1)
        value = loss(model, data())
        if len(calls) == 2:
            raise ArithmeticError("once is enough")
        return value

    with pytest.raises(ArithmeticError, match="once is enough"):
        rescale(model, evaluate)
    assert same(before, model.state_dict())


def test_factors_do_the_same_again_and_can_be_taken_back_exactly():
    torch.manual_seed(0)
    model = scaled(perceptron(), 10)
    before = copy.deepcopy(model.state_dict())
    factors = rescale(model, asked(model)[0])
    after = copy.deepcopy(model.state_dict())
    undo(model, factors)
    assert same(before, model.state_dict())
    apply(model, factors)
    assert same(after, model.state_dict())
    assert not same(before, after)


def test_layers_that_are_shared_frozen_or_made_are_left_alone():
    torch.manual_seed(0)
    model = scaled(perceptron(8), 10)
    model[4].weight = model[2].weight
    model[6].requires_grad_(False)
    nn.utils.parametrizations.weight_norm(model[8])
    factors = rescale(model, asked(model)[0])
    assert {"2", "4", "6", "8"}.isdisjoint(factors)
    assert {"0", "10", "12", "14", "16"} <= factors.keys()


def test_the_bounds_lie_far_from_what_healthy_nets_show():
    """The planted breach: with bounds as narrow as this, healthy nets would be touched."""
    torch.manual_seed(0)
    seen = {}
    for name, make in HEALTHY.items():
        model = make()
        layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv1d)]
        seen[name] = Seen(layers, asked(model)[0])
    gains = [sorted(each.gains)[len(each.gains) // 2] for each in seen.values() if len(each.gains) > 2]
    assert LARGE / 4 < max(gains) < LARGE / 1.5
    left = [each.differences[-1] / each.differences[0] for each in seen.values()]
    assert 20 * LOST < min(left) < 1000 * LOST
