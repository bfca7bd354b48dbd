"""What else a program has switched on: compilers, casts, default devices, meshes, other threads, garbage collection."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from by_hand import gap, give, problem, tensors, walk

from steepest.optim import CLASSES

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
AdamW, SGD = CLASSES["AdamW"], CLASSES["SGD"]
ALL = {"clip": 1.0, "skip_nonfinite": True, "ema": 0.9, "cautious": True}


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def end(kind, context=None, dtype=torch.float32, **options):
    """Parameters, states and averages after 12 steps inside a context."""
    starts, gradients = problem(steps=12)
    optimizer = kind(tensors(starts, dtype), lr=0.01, **options)
    optimizer.measure = True
    for step in gradients:
        give(parameters_of(optimizer), step)
        with context() if context else torch.enable_grad():
            optimizer.step()
    with context() if context else torch.enable_grad(), optimizer.averaged():
        averages = [p.detach().clone() for p in parameters_of(optimizer)]
    return [p.detach() for p in parameters_of(optimizer)] + averages, optimizer


@every_rule
@pytest.mark.parametrize("options", [{}, {**ALL, "rounding": "stochastic"}], ids=["plain", "all"])
def test_a_default_device_is_for_others(kind, options):
    dtype = torch.bfloat16 if options else torch.float32
    expected, _ = end(kind, dtype=dtype, **options)
    ours, optimizer = end(kind, lambda: torch.device("meta"), dtype=dtype, **options)
    assert gap(ours, [p.double() for p in expected]) == 0
    assert {value.device.type for p in parameters_of(optimizer) for value in optimizer.state[p].values()} == {"cpu"}
    with torch.device("meta"):
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        optimizer.step()


@every_rule
def test_autocast_does_not_reach_into_a_step(kind):
    def casting():
        return torch.autocast("cpu", dtype=torch.bfloat16)

    assert gap(end(kind, casting)[0], [p.double() for p in end(kind)[0]]) == 0


@every_rule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_a_default_dtype_is_for_others(kind, dtype):
    class Default:
        def __enter__(self):
            torch.set_default_dtype(dtype)

        def __exit__(self, *_):
            torch.set_default_dtype(torch.float32)

    assert gap(end(kind, Default)[0], [p.double() for p in end(kind)[0]]) == 0


def test_deterministic_algorithms_are_no_obstacle():
    torch.use_deterministic_algorithms(True)
    try:
        for kind in CLASSES.values():
            end(kind, **ALL)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["AdamW", "Muon"])
def test_a_compiled_training_step(name):
    def train(model, optimizer, x):
        optimizer.zero_grad()
        loss = model(x).pow(2).sum()
        loss.backward()
        optimizer.step()
        return loss

    def trained(compiled):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 4, bias=False)
        optimizer = CLASSES[name](model.parameters(), lr=0.1, clip=1.0)
        step = torch.compile(train, backend="eager") if compiled else train
        for k in range(4):
            step(model, optimizer, torch.full((2, 3), 1.0 + k))
        return model.weight.detach()

    torch._dynamo.reset()
    torch.testing.assert_close(trained(True), trained(False))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_compiled_step():
    starts, gradients = problem()
    compiled, plain = AdamW(tensors(starts), lr=0.1), AdamW(tensors(starts), lr=0.1)
    torch._dynamo.reset()
    step = torch.compile(compiled.step, backend="eager")
    for gradient in gradients:
        give(parameters_of(compiled), gradient)
        step()
    walk(plain, gradients)
    assert gap(parameters_of(compiled), [p.detach() for p in parameters_of(plain)]) == 0


def test_parameters_may_be_added_to_a_group_in_place():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts[:1]), lr=0.1)
    walk(optimizer, [step[:1] for step in gradients[:3]])
    optimizer.param_groups[0]["params"].extend(tensors(starts[1:]))
    walk(optimizer, gradients[3:])
    late = AdamW(tensors(starts[1:]), lr=0.1)
    walk(late, [step[1:] for step in gradients[3:]])
    assert gap(parameters_of(optimizer)[1:], [p.detach() for p in parameters_of(late)]) == 0


@pytest.mark.parametrize("how", ["pop", "another list", "another group"])
def test_parameters_may_be_taken_out_of_a_group(how):
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1)
    walk(optimizer, gradients[:3])
    *stay, leaves = parameters_of(optimizer)
    if how == "pop":
        optimizer.param_groups[0]["params"].pop()
    elif how == "another list":
        optimizer.param_groups[0]["params"] = stay
    else:
        optimizer.param_groups.clear()
        optimizer.add_param_group({"params": stay, "lr": 0.1})
    before = leaves.detach().clone()
    leaves.grad = torch.ones_like(leaves)
    moving = [p.detach().clone() for p in stay]
    walk(optimizer, [step[:2] for step in gradients[3:]])
    assert torch.equal(leaves, before)
    assert gap(stay, moving) > 0


def test_a_parameter_may_be_exchanged_for_another():
    starts, gradients = problem(shapes=[(4, 3)])
    optimizer = SGD(tensors(starts), lr=1.0)
    walk(optimizer, gradients[:1])
    old = parameters_of(optimizer)[0]
    new = torch.nn.Parameter(torch.zeros_like(old))
    optimizer.param_groups[0]["params"][0] = new
    before = old.detach().clone()
    walk(optimizer, gradients[1:2])
    assert torch.equal(old, before)
    assert gap([new], [-gradients[1][0]]) == 0


def test_a_sparse_parameter_is_refused_in_one_sentence():
    with pytest.raises((ValueError, TypeError)) as caught:  # noqa: PT012  a sparse tensor warns when it is made
        parameter = torch.nn.Parameter(torch.eye(3).to_sparse())
        parameter.grad = torch.eye(3).to_sparse()
        SGD([parameter], lr=0.1).step()
    assert "sparse" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:steepest has no fast kernel")
def test_parameters_without_memory_are_stepped_for_their_shapes():
    p = torch.nn.Parameter(torch.empty(3, device="meta"))
    p.grad = torch.empty_like(p)
    optimizer = AdamW([p])
    optimizer.step()
    assert optimizer.state[p]["m"].is_meta


def test_an_optimizer_that_nobody_holds_goes():
    parameter = torch.nn.Parameter(torch.ones(1000))
    parameter.grad = torch.ones(1000)
    optimizer = AdamW([parameter], clip=1.0, ema=0.9)
    optimizer.step()
    held = weakref.ref(optimizer), weakref.ref(parameter), weakref.ref(parameter.grad)
    del optimizer, parameter
    gc.collect()
    assert [reference() for reference in held] == [None, None, None]


@pytest.mark.parametrize("name", ["AdamW", "RAdam", "LAMB", "Muon", "Prodigy"])
def test_steps_leave_nothing_behind(name):
    optimizer = CLASSES[name](tensors(problem()[0]), clip=1.0, ema=0.9)
    give(parameters_of(optimizer), problem()[1][0])
    for _ in range(10):
        optimizer.step()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        optimizer.step()
    gc.collect()
    assert len(gc.get_objects()) - before < 20


def test_optimizers_in_threads_of_their_own():
    starts, gradients = problem()
    ends = {}

    def run(place):
        optimizer = AdamW(tensors(starts), lr=0.1 * (1 + place), clip=1.0)
        walk(optimizer, gradients)
        ends[place] = [p.detach() for p in parameters_of(optimizer)]

    workers = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    together = dict(ends)
    for place in range(4):
        run(place)
        assert gap(together[place], ends[place]) == 0


def test_a_closure_that_raises_changes_nothing():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1)
    walk(optimizer, gradients[:2])
    before = [p.detach().clone() for p in parameters_of(optimizer)]

    def fails():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        optimizer.step(fails)
    assert gap(parameters_of(optimizer), before) == 0
    assert optimizer.stats.steps == 2
