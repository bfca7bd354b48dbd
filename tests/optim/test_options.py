"""Each option changes the path exactly as its formula says, for every rule, and leaves no trace when it is off."""

import numpy as np
import pytest
import torch
from by_hand import SHAPES, ByHand, gap, give, problem, tensors, walk

from steepest import everywhere, norm, rule, schedules
from steepest.formula import Tape
from steepest.kernels.plan import plan
from steepest.optim import CLASSES, Optimizer
from steepest.optim.graph import Edits, trace
from steepest.rules import RULES

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
OPTIONS = {
    "clip": {"clip": 0.5},
    "a bound that is not reached": {"clip": 1e6},
    "ema": {"ema": 0.9},
    "cautious": {"cautious": True},
    "maximize": {"maximize": True},
    "all": {"clip": 2.0, "skip_nonfinite": True, "ema": 0.5, "cautious": True, "maximize": True},
}
TOLERANCE = {"SOAP": 1e-8}


def shapes_of(kind):
    """One tensor for a rule that adds over all tensors: called with an array it knows of no other."""
    return SHAPES[:1] if "*" in kind.rule.states.values() else SHAPES


@every_rule
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_path_is_the_one_by_hand(kind, options):
    starts, gradients = problem(shapes_of(kind))
    expected = ByHand(kind.rule, [start.copy() for start in starts], {"lr": 0.01}, **options)
    optimizer = kind(tensors(starts), lr=0.01, **options)
    parameters = optimizer.param_groups[0]["params"]
    for step in gradients:
        expected.step(step)
        walk(optimizer, [step])
        assert gap(parameters, expected.parameters) <= TOLERANCE.get(kind.__name__, 1e-11)
        if "ema" in options:
            with optimizer.averaged():
                assert gap(parameters, expected.averages) <= TOLERANCE.get(kind.__name__, 1e-11)


# Rules that an option cannot change: their step has no length of the gradient in it, or always agrees with it.
UNMOVED = {
    "clip": {"LARS", "Rprop"},
    "cautious": {"Adadelta", "Adafactor", "Adagrad", "RMSprop", "SGD"},
    "maximize": {""},
}


@pytest.mark.parametrize("option", UNMOVED)
@every_rule
def test_an_option_that_is_on_is_seen(kind, option):
    starts, gradients = problem(steps=12)
    gradients = [[g * (1 + t) for g in step] for t, step in enumerate(gradients)]
    plain, other = kind(tensors(starts), lr=0.01), kind(tensors(starts), lr=0.01, **OPTIONS[option])
    for optimizer in (plain, other):
        walk(optimizer, gradients)
    ends = [optimizer.param_groups[0]["params"] for optimizer in (plain, other)]
    moved = gap(ends[0], [p.detach() for p in ends[1]]) > 0
    assert moved == (kind.__name__ not in UNMOVED[option])


@every_rule
def test_what_is_off_is_not_in_the_graph(kind):
    matrix = (4, 3) if kind.rule.matrix else None
    hyper = {**kind.rule.options, "lr": 0.01}
    tape = Tape(matrix)
    names = ("p", *kind.rule.states)
    bare = plan(tape, dict(zip(names, kind.rule.trace(tape, t=3, **hyper), strict=True)))
    edited = trace(kind.rule, Edits(), matrix, 3, hyper).program
    assert (len(edited.nodes), len(edited.stages)) == (len(bare.nodes), len(bare.stages))
    assert sorted(node[0] for node in edited.nodes) == sorted(node[0] for node in bare.nodes)
    on = trace(kind.rule, Edits(clip=1.0), matrix, 3, hyper).program
    assert len(on.nodes) > len(bare.nodes)


@every_rule
def test_one_nan_skips_the_whole_step(kind):
    starts, gradients = problem()
    optimizer = kind(tensors(starts), lr=0.01, skip_nonfinite=True, ema=0.9)
    parameters = optimizer.param_groups[0]["params"]
    walk(optimizer, gradients[:3])
    before = [p.detach().clone() for p in parameters]
    states = {(p, name): value.clone() for p in parameters for name, value in optimizer.state[p].items()}
    shared = dict(optimizer._shared)
    for broken in (np.nan, np.inf, -np.inf):
        step = [g.copy() for g in gradients[3]]
        step[-1][2, 2] = broken
        walk(optimizer, [step])
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert all(torch.equal(optimizer.state[p][name], value) for (p, name), value in states.items())
    assert optimizer._shared == shared
    assert (optimizer.stats.skipped, optimizer.stats.steps) == (3, 3)
    # And the run goes on as if nothing had been.
    other = kind(tensors(starts), lr=0.01, ema=0.9)
    walk(optimizer, gradients[4:])
    walk(other, gradients[:3] + gradients[4:])
    assert gap(parameters, [p.detach() for p in other.param_groups[0]["params"]]) == 0


def test_a_huge_gradient_is_not_taken_for_an_infinite_one():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = CLASSES["SGD"]([p], lr=1e-30, skip_nonfinite=True)
    p.grad = torch.full((4,), 1e30)  # its square is no float32
    optimizer.step()
    assert (optimizer.stats.skipped, optimizer.stats.gradient_norm) == (0, pytest.approx(2e30))
    assert (p == 0).all()


def test_a_nan_goes_through_where_nobody_asked():
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = CLASSES["SGD"]([p], lr=0.1)
    p.grad = torch.tensor([1.0, torch.nan, 1.0, 1.0])
    optimizer.step()
    assert p.isnan().tolist() == [False, True, False, False]


def test_clipping_is_that_of_torch():
    starts, gradients = problem(steps=5)
    ours, theirs = CLASSES["SGD"](tensors(starts), lr=0.1, clip=3.0), torch.optim.SGD(tensors(starts), lr=0.1)
    for step in gradients:
        step = [g * 0.3 for g in step]
        walk(ours, [step])
        give(theirs.param_groups[0]["params"], step)
        length = torch.nn.utils.clip_grad_norm_(theirs.param_groups[0]["params"], 3.0)
        theirs.step()
        assert ours.stats.gradient_norm == pytest.approx(float(length), rel=1e-14)
    assert gap(ours.param_groups[0]["params"], [p.detach() for p in theirs.param_groups[0]["params"]]) < 1e-14


def test_one_norm_for_all_groups_rules_and_dtypes():
    starts = [np.ones(3), np.ones((2, 2)), np.ones(4)]
    parameters = tensors(starts)
    parameters[2] = torch.nn.Parameter(torch.ones(4, dtype=torch.float32))
    groups = [
        {"params": parameters[:1]},
        {"params": parameters[1:2], "rule": "lamb", "weight_decay": 0.0},
        {"params": parameters[2:]},
    ]
    optimizer = CLASSES["SGD"](groups, lr=1.0, clip=1.0)
    give(parameters, [np.full(3, 2.0), np.full((2, 2), 3.0), np.full(4, 1.0)])
    optimizer.step()
    length = np.sqrt(3 * 4 + 4 * 9 + 4)
    assert optimizer.stats.gradient_norm == pytest.approx(length, rel=1e-12)
    np.testing.assert_allclose(parameters[0].detach(), 1 - 2 / (length + 1e-6), rtol=1e-12)
    np.testing.assert_allclose(parameters[2].detach(), 1 - 1 / (length + 1e-6), rtol=1e-6)


def test_the_gradient_itself_is_left_alone():
    starts, gradients = problem()
    for name, kind in CLASSES.items():
        optimizer = kind(tensors(starts), clip=0.1, maximize=True, cautious=True)
        parameters = optimizer.param_groups[0]["params"]
        give(parameters, gradients[0])
        kept = [p.grad for p in parameters]
        optimizer.step()
        assert all(p.grad is g for p, g in zip(parameters, kept, strict=True)), name
        assert gap(kept, gradients[0]) == 0, name


def test_options_of_a_group_are_its_own():
    starts, gradients = problem(shapes=[(3,), (3,)], steps=3)
    gradients = [[step[0], step[0]] for step in gradients]
    starts[1] = starts[0].copy()
    up, down = tensors(starts)
    optimizer = CLASSES["SGD"]([{"params": [up], "maximize": True}, {"params": [down]}], lr=0.1)
    walk(optimizer, gradients)
    assert gap([up + down], [2 * starts[0]]) < 1e-15
    assert gap([up], [starts[0]]) > 0.01


SCHEDULES = {
    "a function": lambda step: 0.1 / (1 + step),
    "linear": (0.1 * schedules.linear()).over(6),
    "warm-up": (0.1 * schedules.warmup(2) * schedules.cosine()).over(6),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_gives_the_rate_of_each_step(schedule):
    starts, gradients = problem(steps=6)
    scheduled, numbered = CLASSES["AdamW"](tensors(starts), lr=schedule), CLASSES["AdamW"](tensors(starts), lr=7.0)
    for k, step in enumerate(gradients):
        numbered.param_groups[0]["lr"] = float(schedule(k))
        walk(scheduled, [step])
        walk(numbered, [step])
        assert scheduled.param_groups[0]["lr"] == float(schedule(k))  # the rate that the step took
    ends = [optimizer.param_groups[0]["params"] for optimizer in (scheduled, numbered)]
    assert gap(ends[0], [p.detach() for p in ends[1]]) == 0


def test_a_schedule_counts_skipped_steps():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = CLASSES["SGD"]([p], lr=lambda step: float(step), skip_nonfinite=True)
    for gradient in (1.0, torch.nan, 1.0):
        p.grad = torch.full((1,), gradient)
        optimizer.step()
    assert p.item() == -(0.0 + 2.0)


def test_a_schedule_of_unknown_length_is_named():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = CLASSES["SGD"]([p], lr=0.1 * schedules.linear())
    p.grad = torch.ones(1)
    with pytest.raises(ValueError, match=r"does not know the length of the run: write lr=schedule.over\(steps\)"):
        optimizer.step()
    optimizer.bind(10)
    optimizer.step()
    assert p.item() == pytest.approx(-0.1)


@pytest.mark.parametrize("name", ["LAMB", "LARS", "Muon", "NorMuon", "Adafactor", "StableAdamW", "NovoGrad", "AdamW"])
def test_blocks_are_separate_parameters(name):
    starts, gradients = problem(shapes=[(12, 5)], steps=6)
    whole = CLASSES[name]([{"params": tensors(starts), "blocks": 3}], lr=0.01)
    parts = CLASSES[name](tensors(np.split(starts[0], 3)), lr=0.01)
    walk(whole, gradients)
    walk(parts, [np.split(step[0], 3) for step in gradients])
    one = CLASSES[name](tensors(starts), lr=0.01)
    walk(one, gradients)
    joined = torch.cat([p.detach() for p in parts.param_groups[0]["params"]])
    assert gap(whole.param_groups[0]["params"], [joined]) < 1e-12
    if name != "AdamW":  # for an elementwise rule there is no difference
        assert gap(whole.param_groups[0]["params"], [p.detach() for p in one.param_groups[0]["params"]]) > 1e-9


@rule
def shared_sum(p, g, total: "shared", own: "scalar", *, t, lr=0.1):
    """A state that all tensors have together, and one of each."""
    total = total + everywhere(norm(g) ** 2)
    return p - lr * g / (1 + total), total, own + norm(g)


def test_a_shared_state_is_one_for_all_tensors():
    starts, gradients = problem(shapes=[(3,), (4, 2), (5,)], steps=3)
    parameters = tensors(starts)
    parameters[2] = torch.nn.Parameter(torch.tensor(starts[2], dtype=torch.float32))  # a batch of its own
    optimizer = Optimizer(parameters, shared_sum)
    expected, total = [start.copy() for start in starts], 0.0
    for step in gradients:
        walk(optimizer, [step])
        total += sum((g**2).sum() for g in step)
        expected = [p - 0.1 * g / (1 + total) for p, g in zip(expected, step, strict=True)]
    assert gap(parameters[:2], expected[:2]) < 1e-9  # one gradient was rounded to single precision
    assert gap(parameters[2:], expected[2:]) < 1e-6
    for p, column in zip(parameters, zip(*gradients, strict=True), strict=True):
        assert float(optimizer.state[p]["own"]) == pytest.approx(sum(np.linalg.norm(g) for g in column), rel=1e-6)


def test_a_shared_sum_that_no_element_needs():
    @rule
    def counts(p, g, total: "shared", *, lr=0.1):
        return p - lr * g, total + everywhere(norm(g) ** 2)

    starts, gradients = problem(steps=3)
    optimizer = Optimizer(tensors(starts), counts)
    walk(optimizer, gradients)
    assert optimizer._shared == {"counts.total": pytest.approx(sum((g**2).sum() for step in gradients for g in step))}


def test_every_rule_has_a_class():
    assert {kind.rule.name for kind in CLASSES.values()} == set(RULES)
