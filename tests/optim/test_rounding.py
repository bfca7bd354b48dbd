"""Parameters of 16 bits: to nearest, up or down by chance that keeps the mean, or with what was lost kept aside."""

import numpy as np
import pytest
import torch
from by_hand import gap, problem, tensors, walk

from steepest.optim import CLASSES

ULP = 2.0**-7  # of bfloat16 between 1 and 2
COUNT = 100_000


def moved(fraction, seed=None, start=1.0, count=COUNT, steps=1, copies=1):
    """Parameters that begin at a bfloat16 number and are asked to move up by a fraction of the distance to the next."""
    parameters = [torch.nn.Parameter(torch.full((count,), start, dtype=torch.bfloat16)) for _ in range(copies)]
    ulp = ULP * 2.0 ** np.floor(np.log2(abs(start)))
    optimizer = CLASSES["SGD"](parameters, lr=fraction * ulp, rounding="stochastic")
    for _ in range(steps):
        for p in parameters:
            p.grad = torch.full((count,), -1.0, dtype=torch.bfloat16)
        optimizer.step()
    return [p.detach().float() for p in parameters]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3, 0.5, 0.9, 1.25])
@pytest.mark.parametrize("start", [1.0, 1.5, 3e-20, 1e30])
def test_the_share_that_goes_up_is_the_fraction(fraction, start):
    start = float(torch.tensor(start, dtype=torch.bfloat16))
    (values,) = moved(fraction, start=start)
    ulp = ULP * 2.0 ** np.floor(np.log2(start))
    up = float(((values.double() - start) / ulp).mean())
    spread = np.sqrt(max(fraction % 1 * (1 - fraction % 1), 1e-9) / COUNT)
    assert abs(up - fraction) < 4 * spread + 2e-5  # noise has 16 bits
    assert len(values.unique()) == 2


def test_negative_numbers_go_the_same_way():
    parameter = torch.nn.Parameter(torch.full((COUNT,), -1.0, dtype=torch.bfloat16))
    parameter.grad = torch.full((COUNT,), 1.0, dtype=torch.bfloat16)
    CLASSES["SGD"]([parameter], lr=0.3 * ULP, rounding="stochastic").step()
    assert (parameter != -1).float().mean() == pytest.approx(0.3, abs=0.006)
    assert parameter.unique().tolist() == [-1 - ULP, -1.0]


def test_numbers_of_bfloat16_stay():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    parameter = torch.nn.Parameter(bits.view(torch.bfloat16).clone())
    parameter.grad = torch.zeros_like(parameter)
    CLASSES["SGD"]([parameter], lr=0.0, rounding="stochastic").step()
    before = bits.view(torch.bfloat16)
    assert torch.equal(parameter.isnan(), before.isnan())
    assert torch.equal(parameter[~before.isnan()], before[~before.isnan()])


def test_what_is_not_finite_stays_so():
    parameter = torch.nn.Parameter(torch.ones(3000, dtype=torch.bfloat16))
    parameter.grad = torch.tensor([torch.nan, torch.inf, -torch.inf] * 1000, dtype=torch.bfloat16)
    CLASSES["SGD"]([parameter], lr=1.0, rounding="stochastic").step()
    values = parameter.detach().view(1000, 3)
    assert values[:, 0].isnan().all()
    assert (values[:, 1] == -torch.inf).all()
    assert (values[:, 2] == torch.inf).all()


def test_the_same_step_rounds_the_same_way():
    assert torch.equal(moved(0.3)[0], moved(0.3)[0])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(moved(0.3, count=70_001)[0][:16385], moved(0.3, count=16385)[0])
    finally:
        torch.set_num_threads(before)


def agreement(a, b):
    """The share of elements of which both or none went up."""
    return float((a == b).float().mean())


def test_tensors_and_steps_round_differently():
    first, second = moved(0.3, copies=2)
    independent = 0.3**2 + 0.7**2
    assert agreement(first, second) == pytest.approx(independent, abs=0.01)
    parameter = torch.nn.Parameter(torch.ones(COUNT, dtype=torch.bfloat16))
    optimizer = CLASSES["SGD"]([parameter], lr=0.3 * ULP, rounding="stochastic")
    ups = []
    for _ in range(4):
        parameter.data.fill_(1.0)
        parameter.grad = torch.full((COUNT,), -1.0, dtype=torch.bfloat16)
        optimizer.step()
        ups.append(parameter.detach().clone())
    for k, up in enumerate(ups[1:], 1):
        assert agreement(ups[0], up) == pytest.approx(independent, abs=0.01), k
    for shift in (1, 2, 16, 4096):  # nor is one element's noise another's
        assert agreement(ups[0][shift:], ups[0][:-shift]) == pytest.approx(independent, abs=0.01), shift


def test_blocks_round_differently():
    parameter = torch.nn.Parameter(torch.ones(3, 10_000, dtype=torch.bfloat16))
    parameter.grad = torch.full((3, 10_000), -1.0, dtype=torch.bfloat16)
    CLASSES["SGD"]([{"params": [parameter], "blocks": 3}], lr=0.5 * ULP, rounding="stochastic").step()
    assert agreement(parameter[0], parameter[1]) == pytest.approx(0.5, abs=0.03)


def test_many_small_steps_keep_their_mean():
    (values,) = moved(0.02, count=2000, steps=500)
    # 10 units in all; each of 500 roundings adds at most a quarter of a unit squared.
    assert float(values.double().mean()) == pytest.approx(1 + 10 * ULP, abs=0.3 * ULP)
    parameter = torch.nn.Parameter(torch.ones(2000, dtype=torch.bfloat16))
    nearest = CLASSES["SGD"]([parameter], lr=0.02 * ULP)
    parameter.grad = torch.full((2000,), -1.0, dtype=torch.bfloat16)
    for _ in range(500):
        nearest.step()
    assert (parameter == 1).all()  # what it is for


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Lion", "Adan", "LAMB", "RMSprop"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_kahan_follows_single_precision(name, dtype):
    starts, gradients = problem(shapes=[(50, 4)], steps=400)
    starts = [torch.tensor(start).to(torch.bfloat16).double().numpy() for start in starts]
    gradients = [[torch.tensor(g + 1).to(dtype).double().numpy() for g in step] for step in gradients]
    options = {"lr": 1e-4 if name != "RMSprop" else 1e-5}

    def end(dtype, **more):
        optimizer = CLASSES[name](tensors(starts, dtype), **options, **more)
        walk(optimizer, gradients)
        return [p.detach().double() for p in optimizer.param_groups[0]["params"]]

    exact = end(torch.float32)
    unit = torch.finfo(dtype).eps
    kept = (end(dtype, rounding="kahan")[0] - exact[0]).abs() / exact[0].abs().clamp(min=1e-2)
    nearest = (end(dtype)[0] - exact[0]).abs() / exact[0].abs().clamp(min=1e-2)
    assert kept.max() < 2 * unit
    assert nearest.max() > 2 * kept.max()


def test_kahan_keeps_one_more_tensor_of_the_same_dtype():
    parameter = torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    parameter.grad = torch.ones(4, dtype=torch.bfloat16)
    optimizer = CLASSES["AdamW"]([parameter], rounding="kahan")
    optimizer.step()
    state = optimizer.state[parameter]
    assert {name: value.dtype for name, value in state.items() if name != "step"} == {
        "m": torch.float32, "v": torch.float32, "compensation": torch.bfloat16,
    }  # fmt: skip


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_parameters_that_need_no_rounding_are_stepped_as_ever(rounding, dtype):
    starts, gradients = problem()
    plain, rounded = (
        CLASSES["AdamW"](tensors(starts, dtype)),
        CLASSES["AdamW"](tensors(starts, dtype), rounding=rounding),
    )
    walk(plain, gradients)
    walk(rounded, gradients)
    ends = [optimizer.param_groups[0]["params"] for optimizer in (plain, rounded)]
    assert gap(ends[0], [p.detach() for p in ends[1]]) == 0
    assert "compensation" not in rounded.state[ends[1][0]]


def test_stochastic_rounding_of_float16_is_refused():
    with pytest.raises(ValueError, match="rounding='stochastic' is for bfloat16 parameters, and one is float16"):
        CLASSES["SGD"]([torch.nn.Parameter(torch.ones(3, dtype=torch.float16))], rounding="stochastic")


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
def test_measurements_are_of_what_is_stored(rounding):
    parameter = torch.nn.Parameter(torch.ones(1000, dtype=torch.bfloat16))
    parameter.grad = torch.full((1000,), -1.0, dtype=torch.bfloat16)
    optimizer = CLASSES["SGD"]([parameter], lr=0.3 * ULP, rounding=rounding)
    optimizer.measure = True
    optimizer.step()
    stayed = float((parameter == 1).float().mean())
    assert optimizer.stats.unchanged == pytest.approx(stayed)
    assert optimizer.stats.update_norm == pytest.approx(ULP * np.sqrt((1 - stayed) * 1000))
    assert (stayed == 1) == (rounding != "stochastic")


@pytest.mark.parametrize("state_dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_states_are_kept_in_the_dtype_asked_for(state_dtype):
    starts, gradients = problem()
    optimizer = CLASSES["AdamW"](tensors(starts, torch.float32), state_dtype=state_dtype, ema=0.9)
    walk(optimizer, gradients)
    exact = CLASSES["AdamW"](tensors(starts, torch.float32))
    walk(exact, gradients)
    for p in optimizer.param_groups[0]["params"]:
        assert optimizer.state[p]["m"].dtype == optimizer.state[p]["v"].dtype == state_dtype
        assert optimizer.state[p]["ema"].dtype == torch.float32  # it gathers what is too small for 16 bits
    ends = [each.param_groups[0]["params"] for each in (optimizer, exact)]
    difference = gap(ends[0], [p.detach() for p in ends[1]])
    assert difference < 1e-3
    assert (difference > 1e-7) == (state_dtype != torch.float64)
