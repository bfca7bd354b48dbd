"""Numbers of 16 bits: autocast, the scale of fp16, and weights in bfloat16."""

import copy

import pytest
import torch
from torch import nn

from steepest import optim
from steepest.loop import Run


def loss(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x).float(), y)


def batches(count=4):
    return [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(count)]


def network():
    return nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))


def train(model, data, precision, optimizer=None, **more):
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    return Run(model, loss, data, optimizer=optimizer, steps=len(data), precision=precision, **more)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_products_are_16_bits_and_weights_are_not(precision, dtype):
    model, seen, data = network(), [], batches()
    twin = copy.deepcopy(model)
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    run = train(model, data, precision)
    run.precision.load_state_dict({**run.precision.state_dict(), "scale": 256.0})  # where there is one, none skipped
    assert not any(step.skipped for step in run)
    list(train(twin, data, "float32"))
    assert set(seen) == {dtype}
    moved = [(a - b).abs().max().item() for a, b in zip(model.parameters(), twin.parameters(), strict=True)]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert 0 < max(moved) < 1e-2


def test_fp16_is_what_the_scaler_of_torch_gives_by_hand():
    model, data = network(), batches(8)
    twin = copy.deepcopy(model)
    optimizer, scaler = torch.optim.SGD(twin.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    for batch in data:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            value = loss(twin, batch)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    list(train(model, data, "fp16", clip=0.5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("kind", [torch.optim.SGD, optim.SGD])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_scale_that_is_too_large_skips_the_update_and_is_halved(kind, clip):
    model = network()
    run = train(model, batches(6), "fp16", kind(model.parameters(), lr=0.01), clip=clip)
    run.precision.load_state_dict({**run.precision.state_dict(), "scale": 2.0**40})
    before = copy.deepcopy(model.state_dict())
    first = next(iter(run))
    assert first.skipped
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert run.precision.state_dict()["scale"] == 2.0**39
    assert run.position.skipped == 1


def test_the_scale_is_part_of_the_state():
    model = network()
    run = train(model, batches(), "fp16")
    list(run)
    state = copy.deepcopy(run.state_dict())
    assert state["precision"]["scale"] == 2.0 ** (16 - run.position.skipped)
    other = train(network(), batches(), "fp16")
    state["precision"]["scale"] = 8.0
    other.load_state_dict(state)
    assert other.precision.state_dict()["scale"] == 8.0


@pytest.mark.parametrize("rounding", ["kahan", "stochastic"])
def test_bfloat16_weights_learn_with_rounding_that_is_made_for_it(rounding):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1e-3, rounding=rounding)
    data = batches(1) * 200
    losses = [step.loss for step in train(model, data, "bf16-true", optimizer)]
    assert all(p.dtype == torch.bfloat16 for p in model.parameters())
    assert losses[-1] < losses[0]


def test_bfloat16_weights_need_such_an_optimizer():
    model = network()
    with pytest.raises(ValueError, match=r"give an optimizer of steepest\.optim with rounding='kahan'"):
        train(model, batches(), "bf16-true")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision is one of 'float32', 'bf16', 'fp16', 'bf16-true'; received 'half'"):
        train(network(), batches(), "half")
