"""What a step measures on its way, and the weights to evaluate at."""

import math

import numpy as np
import pytest
import torch
from by_hand import gap, give, problem, tensors, walk

from steepest.optim import CLASSES
from steepest.rules import RULES

every_rule = pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
AdamW, SGD = CLASSES["AdamW"], CLASSES["SGD"]


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def norm(tensors):
    return math.sqrt(sum(float((t.abs().double() ** 2).sum()) for t in tensors))


@every_rule
@pytest.mark.parametrize("options", [{}, {"clip": 0.5}, {"rounding": "nearest", "cautious": True}], ids=str)
def test_measurements_are_those_by_hand(kind, options):
    starts, gradients = problem()
    optimizer = kind(tensors(starts, torch.float32), lr=0.01, **options)
    optimizer.measure = True
    parameters = parameters_of(optimizer)
    for step in gradients:
        before = [p.detach().clone() for p in parameters]
        walk(optimizer, [step])
        moves = [p.detach() - b for p, b in zip(parameters, before, strict=True)]
        stats = optimizer.stats
        assert stats.gradient_norm == pytest.approx(norm([p.grad for p in parameters]), rel=1e-12)
        assert stats.update_norm == pytest.approx(norm(moves), rel=1e-5, abs=1e-12)
        ratios = [norm([m]) / norm([b]) for m, b in zip(moves, before, strict=True)]
        assert list(stats.ratios) == ["0", "1", "2"]
        assert list(stats.ratios.values()) == pytest.approx(ratios, rel=1e-5, abs=1e-12)
        still = sum(int((m == 0).sum()) for m in moves) / sum(m.numel() for m in moves)
        assert stats.unchanged == pytest.approx(still, abs=1e-12)


def test_measuring_changes_no_bit():
    starts, gradients = problem()
    for name, kind in CLASSES.items():
        plain, measured = kind(tensors(starts), lr=0.01), kind(tensors(starts), lr=0.01)
        measured.measure = True
        walk(plain, gradients)
        walk(measured, gradients)
        assert gap(parameters_of(plain), [p.detach() for p in parameters_of(measured)]) == 0, name


def test_nothing_is_measured_that_nobody_asked_for():
    optimizer = AdamW(tensors(problem()[0]))
    walk(optimizer, problem()[1][:1])
    stats = optimizer.stats
    assert (stats.gradient_norm, stats.update_norm, stats.unchanged, stats.ratios) == (None, None, None, {})
    assert stats.steps == 1


def test_the_norm_is_torchs_for_dtypes_and_complex_numbers():
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128]
    parameters = [torch.nn.Parameter(torch.zeros(33, dtype=dtype)) for dtype in dtypes]
    for p in parameters:
        p.grad = torch.randn(33, dtype=torch.complex128 if p.is_complex() else torch.float64).to(p.dtype)
    optimizer = AdamW(parameters, clip=1e3)
    optimizer.step()
    assert optimizer.stats.gradient_norm == pytest.approx(
        norm([p.grad.to(torch.complex128) for p in parameters]), rel=1e-12
    )
    length = torch.nn.utils.get_total_norm([p.grad.to(torch.complex128) for p in parameters])
    assert optimizer.stats.gradient_norm == pytest.approx(float(length), rel=1e-12)


def test_counts():
    starts, gradients = problem(steps=6)
    optimizer = SGD(tensors(starts), lr=0.1, clip=5.0, skip_nonfinite=True)
    scales = [1e-3, 10.0, math.nan, 10.0, math.inf, 1e-3]
    walk(optimizer, [[g * scale for g in step] for step, scale in zip(gradients, scales, strict=True)])
    assert (optimizer.stats.steps, optimizer.stats.clipped, optimizer.stats.skipped) == (4, 2, 2)


def test_a_skipped_step_shows_the_norm_that_it_was_skipped_for():
    optimizer = SGD(tensors([np.ones(3)]), lr=0.1, skip_nonfinite=True)
    optimizer.measure = True
    for value in (math.nan, math.inf):
        walk(optimizer, [[np.full(3, value)]])
        assert not math.isfinite(optimizer.stats.gradient_norm)
        assert optimizer.stats.update_norm is None


def test_an_optimizer_that_does_nothing_is_seen():
    parameter = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    parameter.grad = torch.ones(64, dtype=torch.bfloat16)
    optimizer = SGD([parameter], lr=1e-4)  # half a unit in the last place is 2e-3
    optimizer.measure = True
    optimizer.step()
    assert optimizer.stats.unchanged == 1.0
    assert optimizer.stats.update_norm == 0.0


def test_names_are_those_of_the_model():
    model = torch.nn.Linear(3, 2)
    optimizer = AdamW(model.named_parameters())
    optimizer.measure = True
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert set(optimizer.stats.ratios) == {"weight", "bias"}


def test_blocks_count_as_one_parameter():
    optimizer = CLASSES["LAMB"]([{"params": tensors([np.ones((6, 2))]), "blocks": 3}], lr=0.1)
    optimizer.measure = True
    walk(optimizer, [[np.ones((6, 2))]])
    assert len(optimizer.stats.ratios) == 1


# The weights to evaluate at.

OWN_AVERAGE = [name for name, kind in CLASSES.items() if kind.rule.average is not None]


def test_which_rules_have_an_average():
    assert (
        {"ScheduleFreeSGD", "ScheduleFreeAdamW", "ASGD"} >= set(OWN_AVERAGE) >= {"ScheduleFreeSGD", "ScheduleFreeAdamW"}
    )


@pytest.mark.parametrize("name", OWN_AVERAGE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128], ids=str)
def test_a_rules_own_average(name, dtype):
    rule = RULES[CLASSES[name].rule.name]
    starts, gradients = problem(shapes=[(4, 3)])
    optimizer = CLASSES[name](tensors(starts, dtype), lr=0.1)
    p, state = starts[0], rule.zeros(starts[0])
    for t, (g,) in enumerate(gradients, 1):
        give(parameters_of(optimizer), [g])
        optimizer.step()
        p, *state = rule(p, g, *state, t=t, lr=0.1)
        with optimizer.averaged():
            inside = parameters_of(optimizer)[0].detach().clone()
        point = rule.average(p, *state, **{**rule.options, "lr": 0.1})
        np.testing.assert_allclose(inside.numpy(), point, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-6)
    np.testing.assert_allclose(parameters_of(optimizer)[0].detach().numpy(), p, rtol=1e-4, atol=1e-5)


def test_leaving_puts_everything_back_to_the_bit():
    starts, gradients = problem()
    for name, kind in CLASSES.items():
        optimizer = kind(tensors(starts), lr=0.1, ema=0.9)
        walk(optimizer, gradients[:3])
        before = [p.detach().clone() for p in parameters_of(optimizer)]
        addresses = [p.data_ptr() for p in parameters_of(optimizer)]
        with optimizer.averaged() as nothing:
            assert nothing is None
            assert gap(parameters_of(optimizer), before) > 0, name
        assert gap(parameters_of(optimizer), before) == 0, name
        assert [p.data_ptr() for p in parameters_of(optimizer)] == addresses
        other = kind(tensors(starts), lr=0.1, ema=0.9)
        walk(optimizer, gradients[3:])
        walk(other, gradients)
        assert gap(parameters_of(optimizer), [p.detach() for p in parameters_of(other)]) == 0, name


def test_an_exception_inside_puts_everything_back():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1, ema=0.9)
    walk(optimizer, gradients[:3])
    before = [p.detach().clone() for p in parameters_of(optimizer)]
    with pytest.raises(ZeroDivisionError), optimizer.averaged():
        _ = 1 / 0
    assert gap(parameters_of(optimizer), before) == 0
    walk(optimizer, gradients[3:])  # and steps go on


def test_a_step_inside_is_refused():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1, ema=0.9)
    walk(optimizer, gradients[:3])
    calls = []
    with optimizer.averaged():
        before = [p.detach().clone() for p in parameters_of(optimizer)]
        with pytest.raises(RuntimeError, match="leave the block first"):
            optimizer.step()
        with pytest.raises(RuntimeError, match="leave the block first"):
            optimizer.step(lambda: calls.append(1))
        with pytest.raises(RuntimeError), optimizer.averaged():
            pass
        with pytest.raises(RuntimeError, match="leave the block first"):
            optimizer.step()
        assert gap(parameters_of(optimizer), before) == 0
    optimizer.step()


def test_without_an_average_the_weights_stay():
    starts, gradients = problem()
    optimizer = AdamW(tensors(starts), lr=0.1)
    walk(optimizer, gradients[:3])
    before = [p.detach().clone() for p in parameters_of(optimizer)]
    with optimizer.averaged():
        assert gap(parameters_of(optimizer), before) == 0


def test_a_parameter_without_gradient_stays_inside():
    starts, gradients = problem(shapes=[(3,), (3,)])
    optimizer = AdamW(tensors(starts), lr=0.1, ema=0.9)
    for step in gradients:
        give(parameters_of(optimizer), step)
        parameters_of(optimizer)[1].grad = None
        optimizer.step()
    with optimizer.averaged():
        assert gap(parameters_of(optimizer)[1:], starts[1:]) == 0
        assert gap(parameters_of(optimizer)[:1], starts[:1]) > 0


def test_the_average_keeps_what_bfloat16_would_lose():
    parameter = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = SGD([parameter], lr=1.0, ema=0.999)
    for _ in range(100):
        parameter.grad = torch.full((4,), -1.0, dtype=torch.bfloat16)
        optimizer.step()
    expected, p = 1.0, 1.0
    for _ in range(100):
        p += 1
        expected = 0.999 * expected + 0.001 * p
    np.testing.assert_allclose(optimizer.state[parameter]["ema"], expected, rtol=1e-5)
