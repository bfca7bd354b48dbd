"""A run without a budget: its rate stays, its weights are averaged, and it ends by a decay when it is told to."""

import copy
import io
import itertools
import math

import pytest
import torch
from hypothesis import given, strategies as some
from torch import nn

from steepest import optim
from steepest.loop import Run
from steepest.loop.average import Average
from steepest.loop.budget import ENDLESS, Budget
from steepest.schedules import inverse_sqrt, linear, warmup, wsd

RATE = 0.1


def loss(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def data():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, generator=draw), torch.randn(40, 1, generator=draw)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Linear(3, 1)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=RATE)


def run(model=None, optimizer=sgd, **more):
    model = model or network()
    return Run(model, loss, data(), optimizer=optimizer(model), batch_size=8, **more)


def rates(of, number=None):
    return [step.lr for step in itertools.islice(of, number)]


@given(steps=some.integers(0, 10**8), seconds=some.floats(0, 1e9))
def test_it_is_never_over_by_itself(steps, seconds):
    budget = Budget()
    assert budget.open
    assert budget.endless
    assert not budget.spent(steps, seconds)
    assert budget.place(steps, seconds) == (steps, ENDLESS)


@given(steps=some.integers(20_000, 10**8))
def test_it_counts_in_parts_of_the_steps_that_are_done(steps):
    grown = Budget().done(round(steps * 1.02), 0.0) - Budget().done(steps, 0.0)
    assert grown == pytest.approx(1 / 50, rel=0.05)


@given(done=some.integers(0, 10**7))
def test_the_final_decay_is_a_line_over_a_tenth_of_the_steps(done):
    budget = Budget()
    assert budget.fall(done) == 1.0
    budget.finish(done)
    length = budget.steps - done
    assert length == max(20, done // 10)
    assert [budget.fall(done), budget.fall(budget.steps - 1)] == [1.0, 1 / length]
    assert budget.fall(done + length // 2) == pytest.approx(1 - length // 2 / length)
    assert (budget.open, budget.endless) == (True, False)
    assert not budget.spent(budget.steps - 1, 0.0)
    assert budget.spent(budget.steps, 0.0)


def test_what_cannot_end_is_refused():
    with pytest.raises(ValueError, match="The run has 5 steps, and ends then; only a run without a budget"):
        run(steps=5).finish()
    endless = run()
    rates(endless, 7)
    for steps in (3, 7):
        with pytest.raises(ValueError, match=f"has made 7 steps already: it can end after more, not at steps={steps}"):
            endless.finish(steps)


@pytest.mark.parametrize("optimizer", [sgd, lambda model: optim.AdamW(model.parameters(), lr=RATE)])
def test_a_rate_that_nobody_schedules_stays_until_the_decay(optimizer):
    endless = run(optimizer=optimizer)
    assert rates(endless, 30) == [RATE] * 30
    endless.finish()
    assert rates(endless) == pytest.approx([RATE * (1 - step / 20) for step in range(20)])
    assert endless.over()


def test_the_decay_multiplies_the_schedule_and_ends_where_it_is_told_to():
    endless = run(schedule=warmup(10))
    assert rates(endless, 4) == pytest.approx([RATE * step / 10 for step in (1, 2, 3, 4)])
    endless.finish(9)
    assert rates(endless) == pytest.approx([RATE * step / 10 * (10 - step) / 5 for step in (5, 6, 7, 8, 9)])


def test_told_again_the_line_begins_anew():
    endless = run()
    rates(endless, 10)
    endless.finish(20)
    rates(endless, 5)
    endless.finish(17)
    assert rates(endless) == [RATE, RATE / 2]


@pytest.mark.parametrize("schedule", [linear(), warmup(0.1), lambda step, steps: 1 - step / steps])
def test_a_schedule_in_parts_of_the_run_is_refused(schedule):
    with pytest.raises(ValueError, match=r"is in parts of the run, and a run without a budget has no length"):
        run(schedule=schedule)


@pytest.mark.parametrize("schedule", [warmup(10), inverse_sqrt(100), wsd(10, 20), lambda step, steps: 0.9**step])
def test_a_schedule_in_steps_is_taken(schedule):
    assert rates(run(schedule=schedule), 3) == [RATE * schedule(step, 10**6) for step in range(3)]


@pytest.mark.parametrize("rate", [0.1 * linear(), (0.1 * linear()).over(100), lambda step: 0.1])
def test_a_schedule_that_the_optimizer_holds_is_refused(rate):
    with pytest.raises(ValueError, match="give lr a number, and the schedule to the run"):
        run(optimizer=lambda model: optim.AdamW(model.parameters(), lr=rate))


def walked(steps, dtype=torch.float64, grows=True):
    """The mean of a weight that is the number of the step."""
    weight = nn.Parameter(torch.zeros(1, dtype=dtype))
    average = Average(nn.ParameterList([weight]), torch.optim.SGD([weight], lr=1.0), grows=grows)
    for step in range(steps):
        weight.data.fill_(step + 1)
        average.update(step)
    with average.in_place():
        return weight.item()


@pytest.mark.parametrize("steps", [100, 1000, 5000, 20_000])
def test_the_mean_reaches_back_a_tenth_of_the_run_however_long_that_is(steps):
    """With decay 1 - 1 / (0.1 t) step s weighs as s^9, so the mean of 1 ... t is 10 t / 11."""
    assert walked(steps) / steps == pytest.approx(10 / 11, abs=0.005 + 1 / steps)


def test_the_mean_sees_both_sides_of_weights_that_swing():
    """Planted: looked at every second step, or every fourth, they would stand still on one side."""
    weight = nn.Parameter(torch.zeros(1))
    average = Average(nn.ParameterList([weight]), torch.optim.SGD([weight], lr=1.0), grows=True)
    for step in range(3000):
        weight.data.fill_((-1.0) ** step)
        average.update(step)
        if step > 500:
            with average.in_place():
                assert abs(weight.item()) < 0.2


def test_at_the_end_of_the_decay_the_mean_is_the_last_weights():
    endless, means = run(), []
    rates(endless, 400)
    endless.finish()
    for _ in endless:
        with endless.average.in_place():
            means.append(endless.model.weight.detach().clone())
    last = endless.model.weight.detach()
    assert torch.equal(means[-1], last)
    assert not torch.allclose(means[0], last, rtol=1e-3)


def test_a_mean_of_bfloat16_weights_is_kept_in_float32():
    """Planted: in bfloat16 the mean stays behind, for its changes are lost."""
    assert walked(256, torch.bfloat16) / 256 == pytest.approx(10 / 11, abs=0.01)


def test_a_run_with_a_budget_keeps_no_mean():
    assert walked(100, grows=False) == 100
    assert run(steps=3).average.state_dict() == {"means": []}


def test_evaluation_is_at_the_mean_and_training_is_not():
    endless = run()
    weights = [endless.model.weight.detach().clone() for _ in itertools.islice(endless, 30)]
    mean = weights[0]
    for step, weight in enumerate(weights):
        mean = mean + min(1.0, 10 / (step + 1)) * (weight - mean)
    with endless.average.in_place():
        assert torch.allclose(endless.model.weight, mean)
    assert torch.equal(endless.model.weight, weights[-1])
    assert not torch.allclose(mean, weights[-1])
    endless.average.keep()
    assert torch.allclose(endless.model.weight, mean)


def test_what_batch_norms_saw_goes_with_the_mean():
    def normed(model):
        return torch.optim.SGD(model.parameters(), lr=RATE)

    torch.manual_seed(0)
    endless = run(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)), normed)
    rates(endless, 30)
    now = endless.model[0].running_mean.clone()
    with endless.average.in_place():
        assert not torch.equal(endless.model[0].running_mean, now)
    assert torch.equal(endless.model[0].running_mean, now)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda model: optim.AdamW(model.parameters(), lr=RATE, ema=0.9),
        lambda model: optim.ScheduleFreeAdamW(model.parameters(), lr=RATE),
    ],
)
def test_a_mean_that_the_optimizer_keeps_is_the_mean(optimizer):
    endless = run(optimizer=optimizer)
    rates(endless, 20)
    with endless.optimizer.averaged():
        mean = endless.model.weight.detach().clone()
    with endless.average.in_place():
        assert torch.equal(endless.model.weight, mean)
    assert endless.average.state_dict() == {"means": []}


def test_the_mean_begins_anew_with_other_weights():
    endless = run()
    rates(endless, 50)
    with torch.no_grad():
        endless.model.weight.fill_(1000.0)
    endless.average.begin_anew()
    rates(endless, 1)
    with endless.average.in_place():
        mean = endless.model.weight.clone()
    assert torch.equal(mean, endless.model.weight)


def saved(this):
    file = io.BytesIO()
    torch.save(this.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("optimizer", [sgd, lambda model: optim.AdamW(model.parameters(), lr=RATE)])
@pytest.mark.parametrize("stop", [5, 30, 41])
def test_it_goes_on_from_its_state_also_in_the_decay(stop, optimizer):
    def steps(of, number):
        seen = []
        for step in itertools.islice(of, number):
            seen.append((step.loss, step.lr))
            if step.index == 29:
                of.finish()
        return seen

    whole = run(network(), optimizer)
    expected = steps(whole, None)
    assert len(expected) == 50
    first = run(network(), optimizer)
    steps(first, stop)
    state = copy.deepcopy(saved(first))
    second = run(network(1), optimizer)
    second.load_state_dict(state)
    assert steps(second, None) == expected[stop:]
    assert str(saved(second)["average"]) == str(saved(whole)["average"])


def test_the_decay_that_is_not_remembered_gives_itself_away():
    first = run()
    rates(first, 10)
    first.finish()
    rates(first, 5)
    state = saved(first)
    state["budget"]["since"] = state["budget"]["steps"] = None
    second = run()
    second.load_state_dict(state)
    assert rates(second, 15) != rates(first)


def test_a_run_with_a_budget_and_one_without_are_not_taken_for_each_other():
    first, second = run(), run(steps=5)
    for one, other, words in ((first, second, "without a budget, and this one has 5"), (second, first, "has no end")):
        with pytest.raises(ValueError, match=words):
            other.load_state_dict(saved(one))


def test_data_is_read_again_where_the_run_stands():
    whole = [step.loss for step in itertools.islice(run(), 20)]
    parts = run()
    losses = [step.loss for step in itertools.islice(parts, 8)]
    parts.read_again()
    losses += [step.loss for step in itertools.islice(parts, 12)]
    assert losses == whole


def test_the_measure_has_no_jump_where_the_decay_begins():
    budget = Budget()
    before = budget.done(1000, 0.0)
    budget.finish(1000)
    assert budget.done(1000, 0.0) == before == pytest.approx(math.log(3))
