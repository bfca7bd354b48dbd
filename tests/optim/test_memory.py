"""Kernels write to memory by its address: what was replaced, resized, cast or laid out anew is noticed."""

import copy

import numpy as np
import pytest
import torch
from by_hand import gap, give, problem, tensors, walk

from steepest.optim import CLASSES

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
AdamW, SGD = CLASSES["AdamW"], CLASSES["SGD"]


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


@every_rule
def test_data_that_is_replaced(kind):
    starts, gradients = problem()
    plain, replaced = kind(tensors(starts), lr=0.01), kind(tensors(starts), lr=0.01)
    kept = []
    for k, step in enumerate(gradients):
        walk(plain, [step])
        if k in (2, 5):
            for p in parameters_of(replaced):
                kept.append((p.data, p.data.clone()))
                p.data = p.data.clone()
        walk(replaced, [step])
    assert gap(parameters_of(plain), [p.detach() for p in parameters_of(replaced)]) == 0
    assert all(torch.equal(old, before) for old, before in kept)  # what was replaced is not written to


def test_a_model_that_loads_its_weights():
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 3)
    optimizer = AdamW(net.parameters(), lr=0.1)
    saved = copy.deepcopy(net.state_dict())
    for assign in (False, True):
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        net.load_state_dict(saved, assign=False)
        assert torch.equal(net.weight, saved["weight"])
        net.weight.data = saved["weight"].clone() if assign else net.weight.data
        optimizer.step()
        assert not torch.equal(net.weight, saved["weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_model_that_is_cast_goes_on(dtype):
    starts, gradients = problem([(4, 3), (5,)])
    optimizer = AdamW(tensors(starts, torch.float32), lr=0.1)
    walk(optimizer, gradients[:4])
    for p in parameters_of(optimizer):
        p.grad = None
        p.data = p.data.to(dtype)
    expected = AdamW([torch.nn.Parameter(p.detach().clone()) for p in parameters_of(optimizer)], lr=0.1)
    expected.load_state_dict(optimizer.state_dict())
    walk(optimizer, gradients[4:])
    walk(expected, gradients[4:])
    assert all(p.dtype == dtype for p in parameters_of(optimizer))
    assert gap(parameters_of(optimizer), [p.detach().double() for p in parameters_of(expected)]) == 0


@every_rule
def test_a_model_that_turns_to_channels_last_goes_on(kind):
    starts, gradients = problem([(4, 3, 2, 2)], steps=6)
    plain, turned = kind(tensors(starts), lr=0.01), kind(tensors(starts), lr=0.01)
    walk(plain, gradients)
    walk(turned, gradients[:3])
    p = parameters_of(turned)[0]
    p.data = p.data.to(memory_format=torch.channels_last)
    walk(turned, gradients[3:])
    assert p.is_contiguous(memory_format=torch.channels_last)
    assert gap([p], [parameters_of(plain)[0].detach()]) < 1e-13


def strided(values):
    """The same values with gaps in memory, and what lies in the gaps."""
    wide = torch.full((*values.shape[:-1], 2 * values.shape[-1]), 77.0, dtype=torch.float64)
    wide[..., ::2] = torch.tensor(values)
    return torch.nn.Parameter(wide[..., ::2]), wide


LAYOUTS = {
    "transposed": lambda x: torch.nn.Parameter(torch.tensor(x.T.copy()).T),
    "every second": lambda x: strided(x)[0],
    "channels last": lambda x: torch.nn.Parameter(
        torch.tensor(x.reshape(4, 3, 1, 5)).to(memory_format=torch.channels_last)
    ),
    "a row of a larger one": lambda x: torch.nn.Parameter(torch.tensor(np.stack([x, x]))[1]),
    "expanded sides of one": lambda x: torch.nn.Parameter(torch.tensor(x)[None, :, None]),
}


@every_rule
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_layout_of_parameter_and_gradient(kind, layout):
    starts, gradients = problem([(12, 5)], steps=4)
    odd = layout(starts[0])
    plain = kind([torch.nn.Parameter(odd.detach().clone(memory_format=torch.contiguous_format))], lr=0.01)
    optimizer = kind([odd], lr=0.01, ema=0.9)
    for (gradient,) in gradients:
        odd.grad = torch.tensor(gradient).reshape(odd.shape)
        parameters_of(plain)[0].grad = odd.grad.clone()
        optimizer.step()
        plain.step()
    assert gap([odd], [parameters_of(plain)[0].detach()]) < 1e-13
    with optimizer.averaged():
        assert odd.isfinite().all()


def test_nothing_is_written_into_gaps():
    starts, gradients = problem([(6, 5)])
    parameter, wide = strided(starts[0])
    walk(AdamW([parameter], lr=0.1), gradients)
    assert (wide[:, 1::2] == 77).all()
    assert not torch.equal(wide[:, ::2], torch.tensor(starts[0]))


GRADIENTS = {
    "transposed": lambda g: torch.tensor(g.T.copy()).T,
    "expanded": lambda g: torch.tensor(g[:, :1].copy()).expand(g.shape),
    "every second": lambda g: torch.tensor(np.repeat(g, 2, 1))[:, ::2],
    "requires grad": lambda g: torch.tensor(g, requires_grad=True),
}


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_any_layout_of_the_gradient(make):
    starts, gradients = problem([(12, 5)], steps=3)
    optimizer, plain = AdamW(tensors(starts), lr=0.1), AdamW(tensors(starts), lr=0.1)
    for (gradient,) in gradients:
        parameters_of(optimizer)[0].grad = make(gradient)
        give(parameters_of(plain), [make(gradient).detach().clone().numpy()])
        optimizer.step()
        plain.step()
    assert gap(parameters_of(optimizer), [p.detach() for p in parameters_of(plain)]) == 0
    assert not parameters_of(optimizer)[0].grad_fn


def test_a_lazily_negated_gradient_of_one_element():
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    (torch.complex(a, b).conj() * torch.tensor([2 + 3j])).real.sum().backward()
    assert b.grad.is_neg()  # as autograd hands it over
    expected = 1 - 0.5 * b.grad.resolve_neg().clone()
    SGD([a, b], lr=0.5).step()
    assert torch.equal(b, expected)


@pytest.mark.parametrize("lazy", [torch.Tensor.conj, torch.Tensor.clone], ids=["conjugated", "plain"])
def test_conjugates_are_stepped_as_what_they_are(lazy):
    values = torch.randn(5, dtype=torch.complex128)
    parameter = torch.nn.Parameter(lazy(values.clone()))
    before = parameter.detach().clone()
    for gradient in (torch.full((5,), 1 + 2j, dtype=torch.complex128), torch.full((5,), 1 - 2j).to(values).conj()):
        parameter.grad = gradient
        SGD([parameter], lr=0.5).step()
    torch.testing.assert_close(before - parameter.detach(), torch.full((5,), 1 + 2j, dtype=torch.complex128))


def test_states_that_are_replaced_are_taken_up():
    starts, gradients = problem()
    changed, expected = AdamW(tensors(starts), lr=0.1), AdamW(tensors(starts), lr=0.1)
    walk(changed, gradients[:3])
    walk(expected, gradients[:3])
    for optimizer, scale in ((changed, lambda v: v * 0.5), (expected, lambda v: v.mul_(0.5))):
        for p in parameters_of(optimizer):
            optimizer.state[p]["m"] = scale(optimizer.state[p]["m"])
    walk(changed, gradients[3:])
    walk(expected, gradients[3:])
    assert gap(parameters_of(changed), [p.detach() for p in parameters_of(expected)]) == 0


@pytest.mark.parametrize(("name", "state"), [("NovoGrad", "v"), ("NorMuon", "v"), ("ScheduleFreeSGD", "weight_sum")])
def test_states_that_are_no_elements_are_taken_up_too(name, state):
    starts, gradients = problem()
    optimizer, plain = CLASSES[name](tensors(starts), lr=0.1), CLASSES[name](tensors(starts), lr=0.1)
    for each in (optimizer, plain):
        walk(each, gradients[:3])
    p = parameters_of(optimizer)[1]
    optimizer.state[p][state] = optimizer.state[p][state] * 100
    for each in (optimizer, plain):
        walk(each, gradients[3:])
    distances = [gap([a], [b.detach()]) for a, b in zip(parameters_of(optimizer), parameters_of(plain), strict=True)]
    assert distances[0] == distances[2] == 0
    assert distances[1] > 1e-6


@pytest.mark.parametrize("how", ["clear", "delete", "empty", "another"])
def test_a_state_that_is_thrown_away_begins_anew(how):
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1)
    walk(optimizer, gradients[:3])
    fresh = AdamW([torch.nn.Parameter(p.detach().clone()) for p in parameters_of(optimizer)], lr=0.1)
    first = parameters_of(optimizer)[0]
    if how == "clear":
        optimizer.state.clear()
    elif how == "another":
        optimizer.state = type(optimizer.state)(dict)
    else:
        for p in parameters_of(optimizer):
            if how == "delete":
                del optimizer.state[p]
            else:
                optimizer.state[p] = {}
    walk(optimizer, gradients[3:])
    walk(fresh, gradients[3:])
    assert gap(parameters_of(optimizer), [p.detach() for p in parameters_of(fresh)]) == 0
    assert float(optimizer.state[first]["step"]) == len(gradients) - 3
    assert set(optimizer.state_dict()["state"]) == {"0", "1", "2"}


def test_a_state_of_another_dtype_is_taken_up_or_refused():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts, torch.float32), lr=0.1)
    walk(optimizer, gradients[:3])
    before = [p.detach().clone() for p in parameters_of(optimizer)]
    optimizer.state[parameters_of(optimizer)[0]]["m"] = torch.zeros(starts[0].shape, dtype=torch.float64)
    give(parameters_of(optimizer), gradients[3])
    with pytest.raises(ValueError, match=r"the state 'm' is torch.float64"):
        optimizer.step()
    assert gap(parameters_of(optimizer), [p.double() for p in before]) == 0


def test_a_parameter_that_was_cut_short_is_refused_and_nothing_written():
    whole = torch.zeros(100_000)
    parameter = torch.nn.Parameter(whole)
    optimizer = AdamW([parameter], lr=0.1)
    parameter.grad = torch.ones(100_000)
    optimizer.step()
    before = whole.clone()
    parameter.grad = None
    parameter.data = whole[:5]  # the same address
    parameter.grad = torch.ones(5)
    with pytest.raises(ValueError, match=r"after changing the shape of a parameter, make a new optimizer"):
        optimizer.step()
    assert torch.equal(whole, before)


def test_a_parameter_that_was_cut_short_is_stepped_where_nothing_remembers_it():
    whole = torch.zeros(100_000)
    parameter = torch.nn.Parameter(whole)
    optimizer = SGD([parameter], lr=1.0)
    for size in (100_000, 5, 100_000):
        parameter.grad = None
        parameter.data = whole[:size]
        parameter.grad = torch.ones(size)
        optimizer.step()
    assert (whole[:5] == -3).all()
    assert (whole[5:] == -2).all()


def test_gradients_are_found_wherever_they_lie():
    starts, gradients = problem()
    optimizer, plain = AdamW(tensors(starts), lr=0.1), AdamW(tensors(starts), lr=0.1)
    for k, step in enumerate(gradients):
        give(parameters_of(plain), step)
        plain.step()
        if k % 2:
            for p, g in zip(parameters_of(optimizer), step, strict=True):
                p.grad.copy_(torch.tensor(g))  # in place
        else:
            give(parameters_of(optimizer), step)
        optimizer.step()
    assert gap(parameters_of(optimizer), [p.detach() for p in parameters_of(plain)]) == 0


@every_rule
def test_a_stale_saved_tensor_is_noticed(kind):
    parameter = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = kind([parameter], lr=0.1)
    loss = (parameter * parameter.exp()).sum()
    loss.backward(retain_graph=True)
    version = parameter._version
    optimizer.step()
    assert parameter._version > version
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_skipped_step_makes_nothing_stale():
    parameter = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = AdamW([parameter], lr=0.1, skip_nonfinite=True)
    loss = (parameter * parameter.exp()).sum()
    loss.backward(retain_graph=True)
    parameter.grad[0, 0] = torch.nan
    optimizer.step()
    loss.backward()


def test_entering_and_leaving_the_average_is_noticed():
    parameter = torch.nn.Parameter(torch.randn(4, 3))
    optimizer = AdamW([parameter], lr=0.1, ema=0.9)
    parameter.grad = torch.ones(4, 3)
    optimizer.step()
    loss = (parameter * parameter.exp()).sum()
    with optimizer.averaged(), pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_shared_memory_and_arrays_are_stepped_in_place():
    array = np.ones(1000, np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(array))
    parameter.grad = torch.ones(1000)
    SGD([parameter], lr=0.5).step()
    assert (array == 0.5).all()


def test_a_step_inside_no_grad_and_inference_is_a_step():
    for context in (torch.no_grad, torch.enable_grad):
        parameter = torch.nn.Parameter(torch.ones(3))
        parameter.grad = torch.ones(3)
        with context():
            SGD([parameter], lr=0.5).step()
        assert (parameter == 0.5).all()
        assert parameter.requires_grad
        assert parameter.is_leaf
