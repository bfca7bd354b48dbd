"""It is a torch.optim.Optimizer: groups, closures, hooks, copies; gradients that are late, missing or odd."""

import copy
import pickle

import pytest
import torch
from by_hand import SHAPES, gap, give, problem, tensors, walk
from torch.optim.optimizer import register_optimizer_step_post_hook

from steepest import rule
from steepest.optim import CLASSES, Optimizer

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
# Rules whose tensors know nothing of each other.
APART = {name: kind for name, kind in CLASSES.items() if "*" not in kind.rule.states.values()}
every_rule_apart = pytest.mark.parametrize("kind", APART.values(), ids=APART)
AdamW, SGD = CLASSES["AdamW"], CLASSES["SGD"]


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def same(one, other):
    """Whether two optimizers have come to the same point."""
    return gap(parameters_of(one), [p.detach() for p in parameters_of(other)]) == 0


def test_it_is_one():
    optimizer = AdamW([torch.nn.Parameter(torch.ones(3))])
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert type(optimizer).__name__ == "AdamW"
    assert type(optimizer).__module__ == "steepest.optim"
    assert "lr: 0.001" in repr(optimizer)
    assert optimizer.defaults["betas"] == (0.9, 0.999)


def test_two_groups_are_two_optimizers():
    starts, gradients = problem()
    together = AdamW([{"params": tensors(starts[:1]), "lr": 0.1}, {"params": tensors(starts[1:]), "betas": (0.5, 0.9)}])
    apart = AdamW(tensors(starts[:1]), lr=0.1), AdamW(tensors(starts[1:]), betas=(0.5, 0.9))
    walk(together, gradients)
    walk(apart[0], [step[:1] for step in gradients])
    walk(apart[1], [step[1:] for step in gradients])
    assert gap(parameters_of(together), [p.detach() for each in apart for p in parameters_of(each)]) == 0


@every_rule_apart
def test_groups_in_any_order(kind):
    starts, gradients = problem()
    one, other = tensors(starts), tensors(starts)
    first = kind([{"params": [one[0]], "lr": 0.1}, {"params": one[1:]}])
    second = kind([{"params": other[:0:-1]}, {"params": [other[0]], "lr": 0.1}])
    walk(first, gradients)
    walk(second, [[*step[:0:-1], step[0]] for step in gradients])
    assert gap(one, [p.detach() for p in other]) < 1e-14


def test_each_group_has_its_rule():
    starts, gradients = problem()
    mixed = AdamW(
        [{"params": tensors(starts[:1])}, {"params": tensors(starts[1:]), "rule": "lion", "lr": 0.01}], lr=0.1
    )
    assert [group["rule"] for group in mixed.param_groups] == ["adamw", "lion"]
    assert [group["betas"] for group in mixed.param_groups] == [(0.9, 0.999), (0.9, 0.99)]
    apart = AdamW(tensors(starts[:1]), lr=0.1), CLASSES["Lion"](tensors(starts[1:]), lr=0.01)
    walk(mixed, gradients)
    walk(apart[0], [step[:1] for step in gradients])
    walk(apart[1], [step[1:] for step in gradients])
    assert gap(parameters_of(mixed), [p.detach() for each in apart for p in parameters_of(each)]) == 0


def test_a_group_added_later_begins_then():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts[:2]), lr=0.1)
    walk(optimizer, [step[:2] for step in gradients[:4]])
    optimizer.add_param_group({"params": tensors(starts[2:]), "lr": 0.05})
    walk(optimizer, gradients[4:])
    alone = AdamW(tensors(starts[2:]), lr=0.05)
    walk(alone, [step[2:] for step in gradients[4:]])
    assert gap(parameters_of(optimizer)[2:], [p.detach() for p in parameters_of(alone)]) == 0


def test_a_closure_is_called_once_with_gradients_enabled():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = SGD([p], lr=0.5)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) == 3.0
    assert calls == [True]
    assert (p == 0).all()
    assert optimizer.step() is None
    assert not torch.is_inference_mode_enabled()


def test_hooks_fire_in_order():
    seen = []
    optimizer = SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append("before step"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after step"))
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("before save"))
    optimizer.register_state_dict_post_hook(lambda _, saved: seen.append("after save") or {**saved, "more": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: seen.append(f"before load {saved['more']}"))
    optimizer.register_load_state_dict_post_hook(lambda _: seen.append("after load"))
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before step", "after step", "before save", "after save", "before load 1", "after load"]


def test_hooks_may_be_removed_and_seen_by_all_optimizers():
    seen = []
    handle = register_optimizer_step_post_hook(lambda *_: seen.append("any"))
    optimizer = SGD([torch.nn.Parameter(torch.ones(3))], lr=0.1)
    optimizer.step()
    handle.remove()
    optimizer.step()
    assert seen == ["any"]


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(to_none):
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), weight_decay=0.0)
    walk(optimizer, gradients[:1])
    optimizer.zero_grad(set_to_none=to_none)
    assert all((p.grad is None) if to_none else (p.grad == 0).all() for p in parameters_of(optimizer))
    before = [p.detach().clone() for p in parameters_of(optimizer)]
    optimizer.step()
    assert (gap(parameters_of(optimizer), before) == 0) == to_none  # momentum goes on, where there is a gradient


@every_rule
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copied", "pickled"])
def test_a_copy_goes_on_by_itself(kind, copied):
    starts, gradients = problem()
    optimizer = kind(tensors(starts), lr=0.01, clip=1.0, ema=0.9)
    walk(optimizer, gradients[:3])
    other = copied(optimizer)
    assert type(other) is type(optimizer)
    assert not {p.data_ptr() for p in parameters_of(other)} & {p.data_ptr() for p in parameters_of(optimizer)}
    walk(optimizer, gradients[3:])
    assert not same(optimizer, other)
    walk(other, gradients[3:])
    assert same(optimizer, other)
    assert other.stats.steps == optimizer.stats.steps == len(gradients)


@every_rule_apart
def test_a_late_first_gradient_begins_its_own_count(kind):
    starts, gradients = problem()
    optimizer = kind(tensors(starts), lr=0.01)
    parameters = parameters_of(optimizer)
    for k, step in enumerate(gradients):
        give(parameters, step)
        if k < 3:
            parameters[1].grad = None
        optimizer.step()
    late = kind(tensors(starts[1:2]), lr=0.01)
    walk(late, [step[1:2] for step in gradients[3:]])
    assert gap(parameters[1:2], [p.detach() for p in parameters_of(late)]) < 1e-14
    others = kind(tensors([starts[0], starts[2]]), lr=0.01)
    walk(others, [[step[0], step[2]] for step in gradients])
    assert gap([parameters[0], parameters[2]], [p.detach() for p in parameters_of(others)]) < 1e-14


@every_rule_apart
def test_a_gradient_that_is_missing_rests_its_parameter(kind):
    starts, gradients = problem()
    optimizer = kind(tensors(starts), lr=0.01)
    parameters = parameters_of(optimizer)
    for k, step in enumerate(gradients):
        give(parameters, step)
        if k in (3, 4):
            parameters[1].grad = None
        optimizer.step()
    rested = kind(tensors(starts[1:2]), lr=0.01)
    walk(rested, [step[1:2] for k, step in enumerate(gradients) if k not in (3, 4)])
    assert gap(parameters[1:2], [p.detach() for p in parameters_of(rested)]) < 1e-14


def test_a_frozen_parameter_stays_and_may_thaw():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1)
    parameters = parameters_of(optimizer)
    parameters[0].requires_grad_(False)
    for _ in range(2):
        optimizer.zero_grad()
        sum((p * torch.ones_like(p)).sum() for p in parameters if p.requires_grad).backward()
        optimizer.step()
    assert gap(parameters[:1], starts[:1]) == 0
    assert not optimizer.state.get(parameters[0])
    parameters[0].requires_grad_(True)
    walk(optimizer, gradients[:1])
    assert gap(parameters[:1], starts[:1]) > 0


def test_a_step_without_any_gradient_does_nothing():
    optimizer = AdamW(tensors(problem()[0]), clip=1.0, skip_nonfinite=True, ema=0.9)
    before = [p.detach().clone() for p in parameters_of(optimizer)]
    optimizer.step()
    assert gap(parameters_of(optimizer), before) == 0
    assert not any(optimizer.state.values())


@every_rule
def test_empty_and_zero_dimensional_parameters(kind):
    shapes = [(0, 3), (2, 0), (2, 2)] if kind.rule.matrix else [(0,), (0, 3), (2, 0), (), (1,), (2, 2)]
    starts, gradients = problem(shapes)
    optimizer = kind(tensors(starts), lr=0.01, clip=1.0, ema=0.9, cautious=True)
    optimizer.measure = True
    walk(optimizer, [[abs(g) for g in step] for step in gradients])
    parameters = parameters_of(optimizer)
    assert [tuple(p.shape) for p in parameters] == shapes
    assert all(p.isfinite().all() for p in parameters)
    assert all((p != torch.tensor(start)).any() for p, start in zip(parameters, starts, strict=True) if p.numel())


def test_an_optimizer_of_empty_parameters_only():
    optimizer = AdamW([torch.nn.Parameter(torch.empty(0))], clip=1.0)
    optimizer.measure = True
    parameters_of(optimizer)[0].grad = torch.empty(0)
    optimizer.step()
    assert (optimizer.stats.gradient_norm, optimizer.stats.update_norm, optimizer.stats.unchanged) == (0.0, 0.0, 0.0)


def test_dtypes_may_be_mixed_in_a_group():
    starts, gradients = problem()
    dtypes = [torch.float64, torch.float32, torch.bfloat16]
    optimizer = AdamW([tensors([start], dtype)[0] for start, dtype in zip(starts, dtypes, strict=True)], lr=0.1)
    walk(optimizer, gradients)
    for place, dtype in enumerate(dtypes):
        alone = AdamW(tensors(starts[place : place + 1], dtype), lr=0.1)
        walk(alone, [step[place : place + 1] for step in gradients])
        assert torch.equal(parameters_of(optimizer)[place], parameters_of(alone)[0])


def test_sparse_gradients_are_made_dense():
    starts, gradients = problem([(4, 3)])
    dense, sparse = AdamW(tensors(starts), lr=0.1), AdamW(tensors(starts), lr=0.1)
    for (gradient,) in gradients:
        gradient[::2] = 0
        give(parameters_of(dense), [gradient])
        parameters_of(sparse)[0].grad = torch.tensor(gradient).to_sparse()
        dense.step()
        sparse.step()
    assert same(dense, sparse)


def test_an_embedding_with_sparse_gradients_trains():
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    optimizer = SGD(embedding.parameters(), lr=1.0)
    before = embedding.weight.detach().clone()
    embedding(torch.tensor([1, 1, 4])).sum().backward()
    optimizer.step()
    moved = (embedding.weight.detach() - before).sum(1).tolist()
    assert moved == pytest.approx([0, -6, 0, 0, -3, 0, 0, 0, 0, 0], abs=1e-5)


def test_rules_of_ones_own():
    @rule
    def heavy_ball(p, g, m, *, lr=0.1, momentum=0.9):
        """Momentum.

        m: velocity.
        """
        m = momentum * m - lr * g
        return p + m, m

    starts, gradients = problem()
    ours, theirs = Optimizer(tensors(starts), heavy_ball, momentum=0.8), torch.optim.SGD(tensors(starts), 0.1, 0.8)
    walk(ours, gradients)
    for step in gradients:
        give(parameters_of(theirs), step)
        theirs.step()
    assert gap(parameters_of(ours), [p.detach() for p in parameters_of(theirs)]) < 1e-14


def test_options_of_a_group_may_change_between_steps():
    starts, gradients = problem()
    ours, theirs = AdamW(tensors(starts), lr=0.1), torch.optim.AdamW(tensors(starts), lr=0.1)
    for k, step in enumerate(gradients):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0]["weight_decay"] = 0.1 * k
            optimizer.param_groups[0]["betas"] = (0.9, 0.99 - 0.01 * k)
            give(parameters_of(optimizer), step)
            optimizer.step()
    assert gap(parameters_of(ours), [p.detach() for p in parameters_of(theirs)]) < 1e-13


@every_rule
def test_every_class_says_what_it_is(kind):
    assert kind.__doc__
    assert "Memory:" in kind.__doc__
    assert kind.rule.paper in kind.__doc__
    assert kind(tensors(problem(SHAPES)[0])).rule is kind.rule
