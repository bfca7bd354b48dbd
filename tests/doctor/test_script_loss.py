"""A loss that is read from what was called: computed again it is the same, and what cannot be read is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from steepest.doctor.script_loss import Leaves, Recipe
from steepest.doctor.script_read import Reader, Unknown
from steepest.doctor.script_trace import Trace


@pytest.fixture
def trace():
    trace = Trace(lambda loss, gradient, retained: None, [])
    trace.start()
    yield trace
    trace.stop()
    assert trace._errors == []


@pytest.fixture
def model():
    return nn.Linear(6, 3)


def call(trace, module, *args):
    """Call a module as it is called in a watched script."""
    with trace.silent():
        before = torch.get_rng_state()
        output = module(*args)
    trace.called(module, args, {}, (output, (before,)))
    return output


def read(trace, model, loss, since=0):
    names = {id(each): name for name, each in model.named_parameters()}
    return Reader(trace, {id(model): ""}, names).read(loss, since)


def again(leaves, model):
    """Return the loss of a batch computed from its formula, on the same model."""
    recipe = Recipe()
    recipe.learn(leaves)
    return recipe(model, leaves)


def test_a_batch_is_what_the_loss_was_computed_from_before_it_changed_its_shape(trace, model):
    x, y = torch.randn(8, 2, 3), torch.randint(3, (8, 1))
    weight = torch.tensor([1.0, 2.0, 3.0])
    logits = call(trace, model, x.view(8, -1))
    loss = F.cross_entropy(logits, y.view(-1), weight=weight) + 0.1 * model.weight.square().sum()
    leaves = read(trace, model, loss)
    assert [each is other for each, other in zip(leaves, (x, y), strict=True)] == [True, True]
    assert torch.equal(again(leaves, model), loss)
    weight.zero_()
    assert torch.equal(again(leaves, model), loss)
    model.weight.data.mul_(2)
    assert not torch.equal(again(leaves, model), loss)


def test_words_that_are_flattened_stay_rows(trace, model):
    x, y = torch.randn(4, 5, 6), torch.randint(3, (4, 5))
    loss = F.cross_entropy(call(trace, model, x).view(-1, 3), y.view(-1))
    leaves = read(trace, model, loss)
    assert [each.shape for each in leaves] == [(4, 5, 6), (4, 5)]
    assert torch.equal(again(leaves, model), loss)


def test_batches_of_other_rows_are_asked_in_the_same_way(trace, model):
    x, y = torch.randn(8, 6), torch.randn(8, 3)
    loss = F.mse_loss(call(trace, model, x).view(x.size(0), 3), y)
    recipe = Recipe()
    recipe.learn(read(trace, model, loss))
    fewer = recipe(model, (x[:5], y[:5]))
    assert torch.equal(fewer, F.mse_loss(model(x[:5]), y[:5]))
    with pytest.raises(ValueError, match="not known how"):
        recipe(model, (x,))


def test_what_is_written_into_is_no_data_and_stays_as_it_was(trace, model):
    x, outputs = torch.randn(8, 6), torch.zeros(8, 2, 3)
    for t in range(2):
        outputs[:, t] = call(trace, model, x)
    total = outputs.square().mean()
    total += 1
    leaves = read(trace, model, total)
    assert len(leaves) == 1
    assert all(torch.equal(again(leaves, model), total) for _ in range(2))


@pytest.mark.parametrize("scaled", [lambda loss: loss / 4, lambda loss: loss * 0.5 / 2, lambda loss: 0.25 * loss])
def test_a_factor_is_no_part_of_a_loss_but_its_sign_is(trace, model, scaled):
    loss = call(trace, model, torch.randn(8, 6)).square().mean()
    whole = read(trace, model, scaled(loss))
    assert torch.equal(again(whole, model), scaled(loss))
    assert whole.formula is not None
    whole.formula = whole.formula.without_factor()
    assert torch.equal(again(whole, model), loss)
    turned = read(trace, model, loss * -1)
    assert turned.formula is not None
    assert turned.formula.without_factor() is turned.formula


def test_random_numbers_of_a_second_call_are_what_they_were(trace):
    model, x = nn.Dropout(0.5), torch.randn(8, 6, requires_grad=True)
    model.register_parameter("weight", nn.Parameter(torch.ones(1)))
    x = x.detach()
    one = call(trace, model, x * 1) * model.weight
    torch.randn(3)
    loss = (one + call(trace, model, x + torch.randn(8, 6)) * model.weight).sum()
    with pytest.raises(Unknown):  # a call that gives nothing to differentiate is data
        read(trace, model, torch.ones((), requires_grad=True) * 2)
    assert torch.equal(again(read(trace, model, loss), model), loss)


def refused(trace, model, x):
    """Yield losses that cannot be read, and what is said of them."""
    output = call(trace, model, x)
    with trace.silent():
        hidden = output * 2
    yield hidden.sum(), "asks for a gradient and is not a parameter"
    yield call(trace, nn.Linear(3, 1), output).sum(), "also hangs on Linear"
    yield torch.bernoulli(output.sigmoid(), generator=torch.Generator()).sum() + output.sum(), "generator of its own"
    yield (torch.zeros(8, 3, requires_grad=True) * 1 + output).sum(), "asks for a gradient"
    yield model.weight.square().sum(), "no data"


@pytest.mark.parametrize("number", range(5))
def test_what_cannot_be_read_is_refused_with_a_reason(trace, model, number):
    loss, why = list(refused(trace, model, torch.randn(8, 6)))[number]
    with pytest.raises(Unknown, match=why):
        read(trace, model, loss)


def test_a_graph_that_reaches_back_to_before_the_last_step_is_refused(trace, model):
    loss = call(trace, model, torch.randn(8, 6)).sum()
    assert len(read(trace, model, loss)) == 1
    with pytest.raises(Unknown, match="before the last step"):
        read(trace, model, loss, since=1)


def test_nothing_of_a_loss_is_kept_once_its_graph_is_used_up(trace, model):
    loss = call(trace, model, torch.randn(8, 6)).sum()
    end = trace.origin(loss)
    trace.forget(end.call)
    assert trace.origin(loss) is None
    assert len(trace._calls) == 0


def test_a_batch_made_of_another_forgets_its_formula(trace, model):
    leaves = read(trace, model, call(trace, model, torch.randn(8, 6)).sum())
    assert leaves.formula is not None
    assert Leaves(each * 2 for each in leaves).formula is None


def test_what_is_written_over_is_copied_before(trace, model):
    x, labels = torch.randn(8, 6), torch.zeros(8, 3)
    loss = F.mse_loss(call(trace, model, x), labels)
    leaves = read(trace, model, loss)
    held = [leaves]
    for each in leaves:
        trace.keep(each, lambda old, new: held.append(held[-1].replaced(old, new)))
    labels.fill_(1.0)
    x[0] = 0
    assert torch.equal(again(held[-1], model), loss)
    with pytest.raises(ValueError, match="written over"):
        again(leaves, model)
