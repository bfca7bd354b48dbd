"""What the pilot finds out about a model, which it leaves as it was."""

import copy
import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from steepest.fit import fit
from steepest.pilot import build, measure, plan
from steepest.pilot.measure import Pilot
from steepest.pilot.trace import Ends
from steepest.record import Plan
from steepest.snapshot import random_state


def network(inputs=4):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def mse(model, batch):
    x, y = batch
    return nn.functional.mse_loss(model(x), y)


def batches(inputs=4, scale=1.0, target=1.0):
    x = torch.randn(256, inputs) * scale
    return [(part, part.sum(1, keepdim=True).tanh() * target + 5 * target) for part in x.split(64)]


def test_every_parameter_has_the_rule_that_fits_it():
    model = network()
    choice = build(model, measure(model, mse, batches(), 100))
    rules = {id(p): group["rule"] for group in choice.optimizer.param_groups for p in group["params"]}
    assert {name: rules[id(parameter)] for name, parameter in model.named_parameters()} == {
        "0.weight": "adamw", "0.bias": "adamw", "2.weight": "muon", "2.bias": "adamw", "4.weight": "adamw",
        "4.bias": "adamw",
    }  # fmt: skip
    rates = [choice.schedule(step, 100) for step in range(100)]
    assert rates.index(max(rates)) == 4
    assert 0 < rates[-1] <= 0.011


def tree(model):
    return copy.deepcopy(model.state_dict()), [p.grad for p in model.parameters()]


def test_nothing_of_the_model_or_of_the_random_numbers_changes():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
    data = batches(scale=1000.0)
    before, state = tree(model), random_state()

    def noisy(model, batch):
        random.random(), np.random.rand(), torch.rand(1)
        return mse(model, batch)

    measure(model, noisy, data, 100)
    after = tree(model)
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert after[1] == before[1]
    assert torch.equal(random_state()["torch"], state["torch"])
    assert random_state()["python"] == state["python"]


def test_targets_with_a_size_are_begun_at_their_mean_and_learned_in_their_units():
    model, data = network(), batches(target=100.0)
    found = measure(model, mse, data, 100)
    output = found.settings["output"]
    assert output["layer"] == "4"
    assert 40 < output["size"] < 100
    choice = build(model, found)
    choice.begin()
    x, y = data[0]
    assert model(x).mean().item() == pytest.approx(y.mean().item(), rel=1e-3)
    rates = {group["lr"] for group in choice.optimizer.param_groups}
    assert rates == {0.01, 0.01 * output["size"]}


def cross_entropy(model, batch):
    return nn.functional.binary_cross_entropy_with_logits(model(batch[0]), (batch[1] > 5).float())


def absolute(model, batch):
    return nn.functional.l1_loss(model(batch[0]), batch[1])


@pytest.mark.parametrize("loss", [cross_entropy, absolute])
def test_a_loss_that_is_not_quadratic_leaves_the_outputs_alone(loss):
    assert measure(network(), loss, batches(), 100).settings["output"] is None


def test_raw_inputs_are_taken_for_what_they_are():
    """Columns from a thousandth to a thousand: learned as if they had been standardised by hand."""
    scale = torch.logspace(-3, 3, 6)
    x = torch.randn(512, 6)
    y = x @ torch.randn(6, 1)
    results = {}
    for name, given in {"raw": x * scale + 10 * scale, "by hand": x}.items():
        torch.manual_seed(0)
        results[name] = fit(network(6), mse, (given, y), steps=400, log=False).last("train/loss")
    assert results["raw"] < 3 * results["by hand"] + 1e-3
    torch.manual_seed(0)
    model = network(6)
    plain = build(model, Plan((), {**measure(model, mse, [], 400).settings}))
    unfolded = fit(
        model,
        mse,
        (x * scale + 10 * scale, y),
        steps=400,
        optimizer=plain.optimizer,
        schedule=plain.schedule,
        log=False,
    )
    assert unfolded.last("train/loss") > 10 * results["raw"]


def normed():
    model = network()
    parametrizations.weight_norm(model[0])
    return model


class Shared(nn.Module):
    """Called twice in a forward pass, once on what it made itself."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.layer(self.layer(x)))


@pytest.mark.parametrize("make", [normed, Shared])
def test_layers_whose_weights_are_not_their_own_are_left_alone(make):
    model = make()
    found = measure(model, mse, batches(scale=100.0), 100)
    assert found.settings["inputs"] == {}
    fit(model, mse, batches(), steps=60, log=False)


def test_a_layer_on_a_frozen_one_gets_data():
    model = network()
    model[0].requires_grad_(False)
    assert set(measure(model, mse, batches(scale=100.0), 100).settings["inputs"]) == {"2.weight"}


def test_tied_weights_are_not_folded():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.head(self.second(self.first(x).tanh()))

    assert measure(Tied(), mse, batches(scale=100.0), 100).settings["inputs"] == {}


def test_short_runs_are_not_measured_and_cost_nothing():
    found = measure(network(), mse, batches(scale=100.0), 20)
    assert (found.spent, found.settings["inputs"]) == (0, {})


def test_a_model_without_trainable_parameters_is_refused():
    for model in (nn.ReLU(), network().requires_grad_(False)):
        with pytest.raises(ValueError, match="has no parameter that requires a gradient"):
            measure(model, mse, batches(), 100)


def test_what_is_measured_counts_as_steps():
    calls = []

    def counted(model, batch):
        calls.append(1 if torch.is_grad_enabled() else 1 / 3)
        return mse(model, batch)

    result = fit(network(), counted, batches(scale=50.0, target=30.0), steps=100, log=False)
    assert result.steps == 100 - result.plan.spent
    assert 99 < sum(calls) <= 100


def test_a_plan_is_explained_kept_and_repeated(tmp_path):
    torch.manual_seed(0)
    model = network()
    twin = copy.deepcopy(model)
    data = torch.cat([x for x, _ in batches(scale=50.0)]), torch.cat([y for _, y in batches(target=9.0)])
    made = plan(model, mse, data, 120)
    words = str(made)
    assert words.startswith("inputs    in units of their deviation, for 1 weights")
    assert "outputs   in units of" in words
    assert f"cost      {made.spent} updates" in words
    made.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    assert again == made
    first = fit(model, mse, data, steps=120, log=False, out=tmp_path / "run")
    assert Plan.load(tmp_path / "run" / "plan.json") == made
    second = fit(twin, mse, data, steps=120 - made.spent, plan=again, log=False)
    assert first.plan == made
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert [row["train/loss"] for row in first.history] == [row["train/loss"] for row in second.history]


def test_a_plan_of_another_model_and_no_plan_are_refused(tmp_path):
    made = measure(network(), mse, batches(), 100)
    with pytest.raises(ValueError, match=r"made for another model: Linear has no parameter '0.weight'"):
        build(nn.Linear(4, 1), made)
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(ValueError, match=r"holds no plan, as Plan\.save writes it"):
        Plan.load(tmp_path / "plan.json")
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="plan= is in place of optimizer="):
        fit(model, mse, batches(), steps=3, plan=made, optimizer=optimizer)


def test_a_gradient_that_is_not_finite_moves_nothing_and_is_counted():
    def rooted(model, batch):
        return mse(model, batch) + (model(batch[0]) * 0).sum().sqrt()  # finite, with an infinite slope

    model = network()
    before = [parameter.clone() for parameter in model.parameters()]
    result = fit(model, rooted, (torch.randn(8, 4), torch.randn(8, 1)), steps=3, log=False)
    assert result.skipped == 3
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_model_that_knows_something_is_moved_with_care():
    model, data = network(), batches()
    assert measure(model, mse, data, 100).settings["rate"] == 0.01
    fit(model, mse, data, steps=200, optimizer=torch.optim.Adam(model.parameters(), lr=0.01), log=False)
    before = sum(mse(model, batch).item() for batch in data)
    found = measure(model, mse, data, 100)
    assert found.settings["schedule"].count("warmup") == 2
    assert "the model knows something already" in str(found)
    worst = []

    @torch.no_grad()
    def now():
        linear, (first, _, second, _, third) = nn.functional.linear, model  # by hand, for the pilot watches the model
        hidden = [
            linear(linear(x, first.weight, first.bias).relu(), second.weight, second.bias).relu() for x, _ in data
        ]
        outputs = (linear(each, third.weight, third.bias) for each in hidden)
        return sum((output - y).square().mean().item() for output, (_, y) in zip(outputs, data, strict=True))

    def watched(model, batch):
        if torch.is_grad_enabled():  # not where the pilot looks
            worst.append(now())
        return mse(model, batch)

    fit(model, watched, data, steps=500, log=False)
    assert max(worst[:16]) < 1.02 * before  # in the first fiftieth of the run
    assert worst[-1] < before


def equation(model, x):
    """y' = -y with y(0) = 1."""
    x = x.clone().requires_grad_(True)
    with torch.enable_grad():
        y = 1 + x * model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return (slope + y).square().mean()


def test_an_equation_is_stepped_faster():
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    found = measure(model, equation, [torch.rand(64, 1)], 100)
    assert (found.settings["rate"], found.spent) == (0.03, 1)


def test_a_loss_that_cannot_be_asked_without_gradients_is_trained_all_the_same():
    def curved(model, batch):
        loss = mse(model, batch)
        slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)  # raises under no_grad
        return loss + 1e-3 * sum(slope.square().sum() for slope in slopes)

    result = fit(network(), curved, batches(), steps=60, log=False)
    assert "units     as they are" in str(result.plan)
    assert result.status == "finished"


def test_a_loss_that_is_none_says_so_before_anything_is_measured():
    with pytest.raises(ValueError, match=r"The loss has shape \[64, 1\]") as caught:
        fit(network(), lambda model, batch: model(batch[0]), batches(), steps=100, log=False)
    assert caught.value.__notes__ == [
        "This was before the first step, with the batch (float32[64, 4], float32[64, 1])."
    ]


def test_raw_layers_of_a_model_that_knows_nothing_begin_anew_whatever_the_loss():
    """A drowned layer may have the lower loss; one that knows something is kept then."""
    calls = []

    def rising(model, batch):
        calls.append(batch)
        return model(batch[0]).square().mean() * len(calls)

    for knows, begun in ((0.0, 1), (0.5, 0)):
        model = network()
        pilot = Pilot(model, rising, nullcontext)
        weight = model[0].weight.clone()
        folds = pilot._inputs(Ends([model[0]]), batches(scale=1000.0))
        assert len(pilot._begin_anew(folds, batches(scale=1e-3), knows)) == begun
        assert torch.allclose(model[0].weight, weight, rtol=1e-4, atol=1e-6) == (not begun)


def test_one_layer_alone_is_given_steps_to_go_all_the_way():
    """Planted: at the rate of deep models a weight could go a third of the way to 3."""
    torch.manual_seed(0)
    x = torch.randn(512, 4)
    model = nn.Linear(4, 1)
    fit(model, mse, (x, 3 * x.sum(1, keepdim=True)), steps=120, log=False)
    assert model.weight.detach().flatten().tolist() == pytest.approx([3.0] * 4, abs=0.1)
