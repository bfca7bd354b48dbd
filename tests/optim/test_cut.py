"""Groups are stepped together where their graphs are the same, and every parameter goes where it would go alone."""

import pytest
import torch

from steepest.optim import CLASSES

SHAPES = ((5, 3), (20,), (), (40, 30))
RATES = ({"lr": 0.1}, {"lr": 0.003, "weight_decay": 0.3}, {"lr": 1.0, "weight_decay": 0.01})


def groups(kind, dtype=torch.float32):
    torch.manual_seed(0)
    shapes = [(4, 3), (20, 70), (4, 3), (5, 2, 2)] if kind.rule.matrix else SHAPES
    numbers = [{k: v for k, v in each.items() if k in kind.rule.options} for each in RATES]
    return [{"params": [torch.nn.Parameter(torch.randn(s, dtype=dtype)) for s in shapes], **n} for n in numbers]


def fill(*many, without=()):
    for lines in zip(*([p for each in group for p in each["params"]] for group in many), strict=True):
        gradient = torch.randn(lines[0].shape, dtype=lines[0].dtype)
        for p in lines:
            p.grad = gradient.clone()
    for group in many:
        for place in without:
            group[place]["params"][0].grad = None


def law_as_alone(kind, change=lambda step, groups: None, without=lambda step: (), dtype=torch.float32, **options):
    ours, theirs = groups(kind, dtype), groups(kind, dtype)
    together = kind(ours, **options)
    alone = [kind([each], **options) for each in theirs]
    for step in range(8):
        fill(ours, theirs, without=without(step))
        change(step, together.param_groups)
        change(step, [optimizer.param_groups[0] for optimizer in alone])
        for optimizer in (together, *alone):
            optimizer.step()
        for left, right in zip(ours, theirs, strict=True):
            for a, b in zip(left["params"], right["params"], strict=True):
                assert torch.equal(a, b), step
    return together


@pytest.mark.parametrize("kind", [kind for name, kind in CLASSES.items() if name != "Prodigy"])
def test_a_group_goes_where_it_would_go_alone(kind):
    law_as_alone(kind)


@pytest.mark.parametrize(
    "options", [{"ema": 0.9}, {"maximize": True}, {"cautious": True}, {"skip_nonfinite": True}], ids=str
)
def test_with_options_too(options):
    law_as_alone(CLASSES["AdamW"], **options)


@pytest.mark.parametrize("rounding", ["nearest", "kahan"])
def test_in_bfloat16_too(rounding):
    law_as_alone(CLASSES["AdamW"], dtype=torch.bfloat16, rounding=rounding)


def test_groups_part_when_one_of_them_becomes_another_graph():
    def change(step, groups):
        groups[1]["weight_decay"] = 0.0 if step in (2, 3, 6) else 0.1

    law_as_alone(CLASSES["Adam"], change)


def test_groups_part_when_a_gradient_comes_and_goes():
    optimizer = law_as_alone(CLASSES["AdamW"], without=lambda step: (0, 2) if step % 3 == 0 else ())
    assert len(optimizer._cut.batches) == 2  # by their count of steps


def test_a_rate_of_each_step_is_taken_by_each_group():
    def change(step, groups):
        for place, group in enumerate(groups):
            group["lr"] = 0.1 / (1 + step + place) if len(groups) > 1 else group["lr"]

    together = CLASSES["SGD"](groups(CLASSES["SGD"]), lr=0.1)
    fill(together.param_groups)
    before = [p.detach().clone() for each in together.param_groups for p in each["params"]]
    change(0, together.param_groups)
    for each in together.param_groups:
        each["weight_decay"] = 0
    together.step()
    moved = iter(before)
    for place, each in enumerate(together.param_groups):
        for p in each["params"]:
            torch.testing.assert_close(p, next(moved) - 0.1 / (1 + place) * p.grad)


@pytest.mark.parametrize("name", ["AdamW", "Muon"])
def test_one_launch_for_groups_that_differ_in_numbers_and_shapes(name):
    optimizer = CLASSES[name](groups(CLASSES[name]))
    fill(optimizer.param_groups)
    optimizer.step()
    assert len(optimizer._cut.batches) == 1


@pytest.mark.parametrize(
    "options", [{}, {"dtype": torch.float64}, {"dtype": torch.bfloat16, "rounding": "kahan"}], ids=str
)
def test_a_matrix_goes_where_it_would_go_alone(options):
    shapes = [(4, 3), (20, 70), (4, 3), (70, 20), (1, 5), (300, 300)]
    values = [torch.randn(shape, dtype=options.get("dtype")) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(value.clone()) for value in values] for _ in range(2))
    numbers = {name: value for name, value in options.items() if name != "dtype"}
    together = CLASSES["Muon"](ours, lr=0.1, **numbers)
    alone = [CLASSES["Muon"]([p], lr=0.1, **numbers) for p in theirs]
    for _ in range(4):
        fill([{"params": ours}], [{"params": theirs}])
        for optimizer in (together, *alone):
            optimizer.step()
    assert len(together._cut.batches) == 1
    assert all(map(torch.equal, ours, theirs))


def test_blocks_are_matrices_of_their_own():
    p = torch.nn.Parameter(torch.randn(12, 5))
    parts = [torch.nn.Parameter(part.detach().clone()) for part in p.chunk(3)]
    together = CLASSES["Muon"]([{"params": [p], "blocks": 3}], lr=0.1)
    alone = CLASSES["Muon"](parts, lr=0.1)
    for _ in range(3):
        p.grad = torch.randn(12, 5)
        for part, gradient in zip(parts, p.grad.chunk(3), strict=True):
            part.grad = gradient.clone()
        together.step()
        alone.step()
    assert torch.equal(p, torch.cat([part.detach() for part in parts]))


@pytest.mark.parametrize("name", ["NorMuon", "LAMB", "Adafactor"])
def test_not_where_a_rule_looks_at_more_than_elements(name):
    optimizer = CLASSES[name](groups(CLASSES[name]))
    fill(optimizer.param_groups)
    optimizer.step()
    assert len(optimizer._cut.batches) >= 3


def test_a_profiler_is_told_of_steps():
    optimizer = CLASSES["AdamW"](groups(CLASSES["AdamW"]))
    fill(optimizer.param_groups)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
        optimizer.zero_grad()
    names = {event.name for event in profile.events()}
    assert {"Optimizer.step#AdamW.step", "Optimizer.zero_grad#AdamW.zero_grad"} <= names
    assert all(p.grad is None for each in optimizer.param_groups for p in each["params"])
