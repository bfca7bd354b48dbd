"""The loop is gradient descent as one writes it by hand, bit for bit, and can stop and go on anywhere."""

import copy
import io
import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from steepest.groups import groups
from steepest.loop import Run
from steepest.optim import Muon
from steepest.schedules import linear, warmup
from steepest.snapshot import random_state

STEPS = 25


def data():
    return torch.randn(40, 5), torch.randn(40, 2)


def network():
    return nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 2))


def loss(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def adam(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def by_hand(model, batches, steps, *, schedule=None, clip=None):
    """The loop that every tutorial shows; the losses it saw."""
    optimizer, losses = adam(model), []
    model.train()
    while True:
        for batch in batches:
            if len(losses) == steps:
                return losses
            if schedule is not None:
                for group in optimizer.param_groups:
                    group["lr"] = 0.01 * schedule(len(losses), steps)
            optimizer.zero_grad()
            value = loss(model, batch)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            losses.append(value.item())


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def tree_equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(tree_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(tree_equal, one, other))
    return one == other


@pytest.mark.parametrize("options", [{}, {"clip": 0.1}, {"schedule": warmup(0.2) * linear()}], ids=str)
@pytest.mark.parametrize("kind", ["list", "loader", "shuffling loader"])
def test_a_run_is_the_loop_by_hand_bit_for_bit(kind, options):
    samples, model = data(), network()
    twin = copy.deepcopy(model)
    if kind == "list":
        batches = list(zip(samples[0].split(8), samples[1].split(8), strict=True))
    else:
        batches = DataLoader(TensorDataset(*samples), batch_size=8, shuffle=kind.startswith("shuffling"))
    torch.manual_seed(1)
    expected = by_hand(twin, batches, STEPS, **options)
    torch.manual_seed(1)
    got = [step.loss for step in Run(model, loss, batches, optimizer=adam(model), steps=STEPS, **options)]
    assert got == expected
    assert same(model, twin)


def test_the_comparison_sees_one_update_too_many():
    model = network()
    twin = copy.deepcopy(model)
    batches = [data()]
    by_hand(model, batches, 3)
    by_hand(twin, batches, 4)
    assert not same(model, twin)


def run(model, samples, optimizer=adam, **more):
    return Run(model, loss, samples, optimizer=optimizer(model), batch_size=8, **({"steps": STEPS} | more))


def ours(model):
    return Muon(groups(model), lr=0.01, skip_nonfinite=True, ema=0.9)


def test_a_run_left_and_taken_up_again_is_the_whole_run():
    samples, model = data(), network()
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    whole = [step.loss for step in run(twin, samples)]
    torch.manual_seed(1)
    parts, halves = run(model, samples), []
    for stop in (4, 11, STEPS):
        halves += [step.loss for step in itertools.islice(parts, stop - len(halves))]
    assert halves == whole
    assert same(model, twin)


@pytest.mark.parametrize("optimizer", [adam, ours])
@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_goes_on_from_its_state_in_another_process(stop, optimizer):
    samples, model = data(), network()
    start = copy.deepcopy(model)
    whole = run(model, samples, optimizer, schedule=linear())
    torch.manual_seed(1)
    losses = [step.loss for step in whole]

    torch.manual_seed(1)
    first = run(copy.deepcopy(start), samples, optimizer, schedule=linear())
    for _ in itertools.islice(first, stop):
        pass
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = run(copy.deepcopy(start), samples, optimizer, schedule=linear())
    torch.manual_seed(99)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert [step.loss for step in second] == losses[stop:]
    assert tree_equal({**second.state_dict(), "seconds": 0}, {**whole.state_dict(), "seconds": 0})


def test_with_another_random_state_dropout_gives_the_resumption_away():
    samples, model = data(), network()
    this = run(model, samples)
    next(iter(this))
    state = copy.deepcopy(this.state_dict())
    losses = [step.loss for step in this]
    torch.manual_seed(99)
    other = run(network(), samples)
    other.load_state_dict(state | {"random": random_state()})
    assert [step.loss for step in other] != losses


def test_a_step_counts_the_updates_before_it_and_knows_its_epoch_and_rate():
    steps = list(run(network(), data(), steps=11, schedule=linear()))
    assert [step.index for step in steps] == list(range(11))
    assert [step.epoch for step in steps] == [0] * 5 + [1] * 5 + [2]
    assert [step.lr for step in steps] == [0.01 * ((11 - index) / 11) for index in range(11)]
    assert all(0 < step.seconds < 10 for step in steps)


def test_epochs_count_batches():
    assert len(list(run(network(), data(), steps=None, epochs=3))) == 15


def test_loss_and_gradient_norm_belong_to_the_weights_before_the_update():
    model, samples = nn.Linear(5, 2), data()
    for step in Run(model, loss, [samples], optimizer=torch.optim.SGD(model.parameters(), lr=0.1), steps=3):
        after = copy.deepcopy(model)
        gradients = [parameter.grad for parameter in model.parameters()]
        expected = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
        assert step.grad_norm == pytest.approx(expected, rel=1e-6)
        with torch.no_grad():
            for parameter, gradient in zip(after.parameters(), gradients, strict=True):
                parameter += 0.1 * gradient
        assert step.loss == pytest.approx(loss(after, samples).item(), rel=1e-5)


def test_the_gradient_norm_is_that_before_clipping_and_gone_when_the_loop_has_gone_on():
    clipped = next(iter(run(network(), data(), clip=1e-6)))
    assert clipped.grad_norm > 0.1
    steps = list(run(network(), data(), steps=3))
    assert [step.grad_norm is None for step in steps] == [True, True, False]


def test_the_gradient_norm_of_an_optimizer_that_knows_it_is_taken_from_there():
    model = network()
    optimizer = adam(model)
    optimizer.stats = type("Stats", (), {"gradient_norm": 12.5, "skipped": 0})()
    assert next(iter(Run(model, loss, [data()], optimizer=optimizer, steps=1))).grad_norm == 12.5


def test_the_loss_is_fetched_from_its_device_only_when_it_is_read():
    class Fetched(torch.Tensor):
        count = 0

        def item(self):
            Fetched.count += 1
            return super().item()

    from steepest.loop.step import Step

    step = Step(0, 0, torch.tensor(2.0).as_subclass(Fetched), {})
    assert Fetched.count == 0
    assert (step.loss, step.loss, Fetched.count) == (2.0, 2.0, 1)


def test_what_the_loss_returns_beside_the_loss_is_in_the_step():
    def both(model, batch):
        value = loss(model, batch)
        return {"loss": value, "double": 2 * value, "three": 3}

    step = next(iter(Run(model := network(), both, [data()], optimizer=adam(model), steps=1)))
    assert step.metrics == {"double": pytest.approx(2 * step.loss), "three": 3.0}


def test_a_rate_that_is_a_tensor_is_changed_in_place():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.5), foreach=False)
    rate = optimizer.param_groups[0]["lr"]
    steps = list(Run(model, loss, [data()], optimizer=optimizer, steps=4, schedule=linear()))
    assert [step.lr for step in steps] == [0.5, 0.375, 0.25, 0.125]
    assert optimizer.param_groups[0]["lr"] is rate


def test_every_group_keeps_its_own_rate():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.4}, {"params": model[3].parameters(), "lr": 0.04}]
    optimizer = torch.optim.SGD(groups)
    list(Run(model, loss, [data()], optimizer=optimizer, steps=4, schedule=linear()))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, pytest.approx(0.01)]


def poisoned(places):
    """A loss that is not finite at these calls."""
    calls = itertools.count()

    def value(model, batch):
        return loss(model, batch) * (math.nan if next(calls) in places else 1.0)

    return value


def test_an_update_whose_loss_is_not_finite_is_skipped_and_counted():
    model, before = network(), None
    this = Run(model, poisoned({2, 3}), [data()], optimizer=adam(model), steps=5)
    for step in this:
        if step.skipped:
            assert math.isnan(step.loss)
            assert step.grad_norm is None
            assert same(model, before)
        elif before is not None:
            assert not same(model, before)
        before = copy.deepcopy(model)
        last = step
    assert (this.position.skipped, this.position.step, last.index) == (2, 5, 4)


def test_without_the_guard_the_weights_would_be_lost(monkeypatch):
    model = network()
    monkeypatch.setattr("steepest.loop.gradient.isfinite", lambda number: True)
    list(Run(model, poisoned({1}), [data()], optimizer=adam(model), steps=2))
    assert any(torch.isnan(parameter).any() for parameter in model.parameters())


def test_a_gradient_norm_that_is_not_finite_is_skipped_when_it_is_computed():
    def rooted(model, batch):
        return (model(batch[0]) * 0).sum().sqrt()  # finite, with an infinite slope

    model = network()
    before = copy.deepcopy(model)
    steps = list(Run(model, rooted, [data()], optimizer=adam(model), steps=2, clip=1.0))
    assert [step.skipped for step in steps] == [True, True]
    assert math.isnan(steps[0].grad_norm)
    assert same(model, before)


def test_ten_skipped_updates_in_a_row_end_the_run_and_nine_do_not():
    model = network()
    assert len(list(Run(model, poisoned(range(3, 12)), [data()], optimizer=adam(model), steps=20))) == 20
    before = copy.deepcopy(model)
    this = Run(model, poisoned(range(10)), [data()], optimizer=adam(model), steps=20)
    with pytest.raises(FloatingPointError, match=r"at steps 0 to 9, 10 in a row \(the last loss is nan\)"):
        list(this)
    assert this.position.skipped == 10
    assert same(model, before)


def test_skips_that_the_optimizer_made_are_counted():
    class Wary(torch.optim.SGD):
        def __init__(self, parameters):
            super().__init__(parameters, lr=0.1)
            self.stats = type("Stats", (), {"gradient_norm": None, "skipped": 0})()

        def step(self, closure=None):
            self.stats.skipped += 1

    model = network()
    this = Run(model, loss, [data()], optimizer=Wary(model.parameters()), steps=3)
    assert [step.skipped for step in this] == [True] * 3
    assert this.position.skipped == 3


def test_the_body_may_change_the_rate_between_steps():
    model = network()
    this = Run(model, loss, [data()], optimizer=adam(model), steps=6)
    scheduler = torch.optim.lr_scheduler.StepLR(this.optimizer, step_size=2, gamma=0.5)
    rates = []
    for step in this:
        rates.append(step.lr)
        scheduler.step()
    assert rates == [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]
