"""A run set up by the pilot goes back when its weights have blown up, and is left alone when it is something else."""

import copy
import importlib
import itertools
import math
import random

import pytest
import torch
from torch import nn

from steepest import events
from steepest.fit import fit
from steepest.loop.course import WINDOW, Course
from steepest.loop.guard import Guard
from steepest.loop.kept import Kept

STEPS = 250
AT = 100
"""The step at which something is done to the run."""

kept_module = importlib.import_module("steepest.loop.kept")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)
    )


def batches(count=10**9, harder=False):
    """Yield batches of a function to learn, each with its place in the run."""
    draw = torch.Generator().manual_seed(1)
    for place in range(count):
        x = torch.randn(32, 6, generator=draw)
        y = torch.stack([x[:, 0] * x[:, 1], (2 * x[:, 2]).sin()], 1)
        yield x, y * (6 if harder and place >= AT else 1), torch.tensor(place)


def squared(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def hit(by, at=(AT,)):
    """A loss that does something to the weights at some batches, as a step far too long would."""

    def loss(model, batch):
        if model.training and torch.is_grad_enabled() and int(batch[2]) in at:
            with torch.no_grad():
                for weight in model.parameters():
                    weight.copy_(by(weight))
        return squared(model, batch)

    return loss


def blown(weight):
    return 30 * weight.abs()


def lost(weight):
    return torch.full_like(weight, math.nan)


def trained(loss, data=None, model=None, **more):
    """Train; return the result and what the guard wrote of its returns."""
    said = []
    module = importlib.import_module("steepest.loop.guard")
    before = module.Guard._go_back

    def go_back(guard, step, trial, done):
        before(guard, step, trial, done)
        said.append(step.index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Guard, "_go_back", go_back)
        options = {"steps": STEPS, "log": False, **more}
        result = fit(model or network(), loss, list(batches(STEPS)) if data is None else data, **options)
    return result, said


def last(result):
    losses = [row["train/loss"] for row in result.history if "train/loss" in row]
    return sum(losses[-30:]) / 30


@pytest.fixture
def blind(monkeypatch):
    """Leave the guard out."""
    return lambda: monkeypatch.setattr(Guard, "look", lambda guard, batch, step, done: step)


@pytest.mark.parametrize("by", [blown, lost])
def test_weights_that_blow_up_are_gone_back_from(by, capsys):
    whole, none = trained(squared)
    result, returns = trained(hit(by), log=True)
    assert none == []
    assert len(returns) == 1
    assert AT < returns[0] <= AT + WINDOW + 2
    assert last(result) < 3 * last(whole)
    said = capsys.readouterr().out
    assert "training goes on from those, at half the rate" in said
    assert ("3 of 20 losses were not finite" if by is lost else "the loss has risen from") in said


def test_data_from_an_iterator_go_on_when_the_weights_go_back():
    _, returns = trained(hit(blown), batches())
    assert len(returns) == 1


def test_without_the_guard_they_would_be_lost(blind):
    whole, _ = trained(squared)
    blind()
    result, _ = trained(hit(blown))
    assert last(result) > 10 * last(whole)
    with pytest.raises(FloatingPointError, match=f"at steps {AT - 9} to {AT + 1}|10 in a row"):
        trained(hit(lost))


def test_after_a_return_the_rate_is_half(tmp_path):
    result, (at,) = trained(hit(blown), out=tmp_path)
    whole, _ = trained(squared)
    rates, full = ({row["step"]: row["lr"] for row in each.history if "lr" in row} for each in (result, whole))
    assert all(rates[step] == full[step] for step in full if step < at)
    assert all(rates[step] == full[step] / 2 for step in full if step >= at)
    (event,) = [event for event in events.read(tmp_path / events.FILE) if event["event"] == "rewind"]
    assert event["step"] == at
    assert event["to"] <= AT
    assert event["rate"] == 0.5
    assert event["then"] < event["loss"]


@pytest.mark.parametrize("spoiled", [lambda call: call % 97 == 96, lambda call: False])
def test_a_run_in_which_nothing_blows_up_is_what_it_is_without_a_guard(spoiled, blind):
    def loss(model, batch):
        return squared(model, batch) * (math.nan if spoiled(int(batch[2])) else 1.0)

    (guarded, returns), model = trained(loss), network()
    blind()
    alone, _ = trained(loss, model=model)
    assert returns == []
    assert guarded.skipped == alone.skipped
    assert same(guarded.model, alone.model)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_losses_that_are_not_finite_for_good_end_the_run_with_the_weights_of_their_first_step():
    model, before = network(), {}

    def loss(model, batch):
        if int(batch[2]) == 50 and not before:
            before.update(copy.deepcopy(dict(model.named_parameters())))
        return squared(model, batch) * (math.nan if int(batch[2]) >= 50 else 1.0)

    with pytest.raises(FloatingPointError, match=r"10 in a row .* the weights are those that step \d+ began with"):
        trained(loss, model=model)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def test_batches_that_are_bad_with_any_weights_are_skipped(capsys):
    def loss(model, batch):
        return squared(model, batch) * (math.nan if int(batch[2]) % 5 == 0 else 1.0)

    result, returns = trained(loss, log=True)
    assert returns == []
    assert result.skipped > STEPS / 6
    assert capsys.readouterr().out.count("such batches are skipped") == 1


def test_data_that_become_harder_are_no_reason_to_go_back(capsys):
    _, returns = trained(squared, list(batches(STEPS, harder=True)), log=True)
    assert returns == []
    assert capsys.readouterr().out.count("it may be the data") == 1


def test_three_returns_within_a_tenth_of_the_run_are_the_last():
    hits = range(AT, STEPS, 3)
    _, returns = trained(hit(lambda weight: 3 * weight, at=hits), batches(), steps=1000)
    assert len(returns) == 3
    assert returns[2] - returns[0] <= 100


class Killed(BaseException):
    """Stands for SIGKILL."""


def dying(loss, dies):
    def until(model, batch):
        if model.training and torch.is_grad_enabled() and int(batch[2]) == dies:
            raise Killed
        return loss(model, batch)

    return until


@pytest.mark.parametrize("by", [blown, lost])
@pytest.mark.parametrize("dies", [AT + 2, AT + 9, AT + 60])
def test_a_run_that_died_goes_back_as_it_would_have(by, dies, tmp_path):
    whole, returns = trained(hit(by))
    died(hit(by), dies, tmp_path)
    again, after = trained(hit(by), out=tmp_path)
    assert same(again.model, whole.model)
    assert [step for step in returns if step >= dies // 7 * 7] == after


def died(loss, dies, out):
    with pytest.raises(Killed):
        trained(dying(loss, dies), out=out, checkpoint_every=7)


@pytest.mark.parametrize("breach", ["course", "kept", "factor"])
def test_what_the_guard_forgets_gives_itself_away(breach, tmp_path, monkeypatch):
    dies = AT + 60 if breach == "factor" else AT + 9
    whole, _ = trained(hit(blown))
    died(hit(blown), dies, tmp_path)
    load = Guard.load_state_dict

    def forgetful(guard, state):
        fresh = Guard(guard._gradient, guard._optimizer, guard._average).state_dict()
        load(guard, {**state, breach: fresh[breach]})

    monkeypatch.setattr(Guard, "load_state_dict", forgetful)
    again, _ = trained(hit(blown), out=tmp_path)
    assert not same(again.model, whole.model)


def test_where_there_is_no_room_it_is_said_and_training_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(kept_module, "_has_room", lambda tree: False)
    result, returns = trained(squared, log=True)
    assert (result.status, returns) == ("finished", [])
    assert capsys.readouterr().out.count("there is no room for a second copy of the weights") == 1


def test_what_is_kept_is_all_that_training_changes_but_options():
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    kept = Kept(model, optimizer)

    def move():
        optimizer.zero_grad()
        squared(model, next(batches())).backward()
        optimizer.step()

    move()
    assert kept.keep(7)
    then = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    move()
    optimizer.param_groups[0]["lr"] = 0.05
    kept.exchange()
    kept.restore_optimizer()
    assert kept.step == 7
    assert tree_equal(dict(then[0]), dict(model.state_dict()))
    assert tree_equal(then[1], optimizer.state_dict()["state"])
    assert optimizer.param_groups[0]["lr"] == 0.05


def tree_equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(tree_equal(one[key], other[key]) for key in one)
    return torch.equal(one, other)


def test_what_is_kept_takes_no_memory_again_when_it_is_kept_anew():
    model = network()
    kept = Kept(model, torch.optim.SGD(model.parameters(), lr=0.1))
    kept.keep(0)
    places = [each.data_ptr() for each in kept.state_dict()["copy"]["model"].values()]
    kept.keep(20)
    assert [each.data_ptr() for each in kept.state_dict()["copy"]["model"].values()] == places


def course(losses):
    """Return whether the losses were ever taken for blown up."""
    found, seen = False, Course()
    for loss in losses:
        seen.add(loss)
        found |= seen.blown_up()
    return found


def falling(start, end, noise, steps=2000, seed=0):
    draw = random.Random(seed)
    return [end + (start - end) * math.exp(-step / 100) + noise(draw) for step in range(steps)]


HEALTHY = {
    "falls": falling(2.3, 0.1, lambda draw: draw.gauss(0, 0.05)),
    "falls by eight orders": [10 ** (-8 * step / 2000 + 0.5 * math.sin(step)) for step in range(2000)],
    "noise with a long tail": falling(1, 1, lambda draw: draw.lognormvariate(0, 1.5)),
    "constant": [3.0] * 2000,
    "constant, rounded": [3.0 + 1e-6 * step for step in range(2000)],
    "zero": [0.0] * 2000,
    "negative and without end": [-0.1 * step + math.sin(step) for step in range(2000)],
    "around zero": falling(0.01, -0.01, lambda draw: draw.gauss(0, 0.01)),
    "a hump": [2.3 - 0.001 * step + 0.2 * math.exp(-(((step - 100) / 30) ** 2)) for step in range(2000)],
    "spikes": falling(2.3, 0.1, lambda draw: 1e6 * (draw.random() < 0.05)),
}
SICK = {
    "back to where it began": [2.3 * math.exp(-step / 100) for step in range(500)] + [2.3] * 40,
    "far above": [1 + 0.1 * math.sin(step) for step in range(500)] + [9.0] * 40,
    "negative": [-0.1 * step for step in range(500)] + [-10.0] * 40,
    "infinite": [1.0] * 500 + [math.inf] * 40,
    "slowly": [abs(step - 500) / 500 + 0.05 * math.sin(step) for step in range(1000)],
}


@pytest.mark.parametrize("losses", HEALTHY.values(), ids=HEALTHY)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_healthy_losses_are_not_taken_for_blown_up(losses, scale):
    assert not course([scale * loss for loss in losses])


@pytest.mark.parametrize("losses", SICK.values(), ids=SICK)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_losses_that_have_blown_up_are_seen(losses, scale):
    assert course([scale * loss for loss in losses])


def test_a_run_that_ends_higher_than_it_began_says_so(capsys):
    def upward(model, batch):
        return squared(model, batch) + batch[2] / 10

    trained(upward, log=True, steps=80)
    assert "the training loss ends higher than it began: " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["constant", "random", "density", "large"])
def test_odd_losses_are_left_alone(kind, capsys):
    draws = itertools.count()

    def loss(model, batch):
        if kind == "density":  # a Gaussian that gets narrower without end: -log p
            width = model[0].weight.mean()
            return width + 0.0 * squared(model, batch)
        if kind == "large":
            return 1e4 * squared(model, batch)
        of_call = random.Random(next(draws)).lognormvariate(0, 1) if kind == "random" else -2.0
        return 0.0 * squared(model, batch) + of_call

    result, returns = trained(loss, log=True)
    assert (result.status, returns) == ("finished", [])
    assert "higher than it began" not in capsys.readouterr().out
