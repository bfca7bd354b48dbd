"""Schedules: exact ends, agreement with PyTorch, laws of composition, values that print and come back."""

import copy
import io
import itertools
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    PolynomialLR,
)

from steepest import schedules
from steepest.schedules import (
    BoundSchedule,
    Schedule,
    constant,
    cosine,
    cyclic,
    inverse_sqrt,
    linear,
    one_cycle,
    one_minus_sqrt,
    parse,
    polynomial,
    product,
    restarts,
    sequence,
    warmup,
    wsd,
)
from steepest.schedules.text import NAMES

DECAYS = [linear(), cosine(), polynomial(), polynomial(0.5), one_minus_sqrt()]
FALLS = [*DECAYS, inverse_sqrt(), inverse_sqrt(0.1), *(type(decay)(floor=0.1) for decay in DECAYS)]

shares = st.floats(0, 1)
fractions = st.floats(0.01, 0.4)
simple = st.one_of(
    st.sampled_from(FALLS),
    st.builds(constant, st.floats(0, 2)),
    st.builds(warmup, st.one_of(st.none(), fractions)),
    st.builds(lambda power, floor: polynomial(power, floor=floor), st.floats(0.1, 5), shares),
    st.builds(lambda rise, start: one_cycle(rise, start=start), shares, st.floats(0.01, 1)),
    st.builds(cyclic, fractions),
    st.builds(lambda first, growth: restarts(first, growth=growth), fractions, st.floats(1, 3)),
    st.builds(lambda rise, fall, shape: wsd(rise, fall, shape=shape), fractions, fractions, st.sampled_from(FALLS)),
)
any_schedule = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda number, a: number * a, st.floats(0, 2), inner),
        st.builds(lambda a, number: a * number, inner, st.floats(0, 2)),
        st.builds(lambda f, a, g, b, c: sequence((f, a), (g, b), c), fractions, inner, fractions, inner, inner),
    ),
    max_leaves=5,
)
runs = st.integers(1, 300)


def values(schedule: Schedule, steps: int) -> list[float]:
    return [schedule(step, steps) for step in range(steps)]


@dataclass(frozen=True, repr=False)
class late(Schedule):
    """A planted breach: linear, one step too far, so that its last step is taken at rate 0."""

    def factor(self, step, steps):
        return (steps - step - 1) / steps


# The ends


def law_of_falls(schedule: Schedule, steps: int) -> None:
    """Begin at the full rate, never rise, never reach 0."""
    path = values(schedule, steps)
    assert path[0] == 1
    assert all(after <= before for before, after in itertools.pairwise(path))
    assert path[-1] > 0


@pytest.mark.parametrize("schedule", FALLS, ids=repr)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 10_000])
def test_a_fall_begins_at_the_full_rate_and_never_reaches_zero(schedule, steps):
    law_of_falls(schedule, steps)


@pytest.mark.parametrize("breach", [late(), warmup(), 2.0 * linear(), cyclic(0.5), constant(0.0)], ids=repr)
def test_the_law_of_falls_sees_breaches(breach):
    with pytest.raises(AssertionError):
        law_of_falls(breach, 10)


def test_ends_are_exact():
    assert values(linear(), 1) == [1]
    assert values(linear(), 2) == [1, 1 / 2]
    assert values(linear(floor=0.5), 4) == [1, 0.875, 0.75, 0.625]
    assert values(linear(), 1000)[-1] == 1 / 1000
    assert values(cosine(), 2) == pytest.approx([1, 1 / 2], abs=1e-15)
    assert values(one_minus_sqrt(), 4) == [1, 1 / 2, 1 - math.sqrt(1 / 2), 1 - math.sqrt(3 / 4)]
    assert values(polynomial(), 2) == [1, 1 / 4]
    assert values(inverse_sqrt(), 4) == [1, 1 / math.sqrt(2), 1 / math.sqrt(3), 1 / 2]
    assert inverse_sqrt(1000)(1000, 5000) == inverse_sqrt(0.2)(1000, 5000) == 1 / math.sqrt(2)
    assert values(constant(), 3) == [1, 1, 1]


def test_a_warmup_wastes_no_step():
    assert values(warmup(4), 6) == [1 / 4, 2 / 4, 3 / 4, 1, 1, 1]
    assert values(warmup(), 4) == [1 / 4, 2 / 4, 3 / 4, 1]
    assert values(warmup(0.5), 4) == [1 / 2, 1, 1, 1]
    assert values(warmup(0), 2) == values(warmup(1), 2) == values(warmup(0.01), 2) == [1, 1]
    assert values(warmup(3), 3) == [1 / 3, 2 / 3, 1]


def test_wsd_warms_up_stays_and_decays():
    assert values(wsd(0.2, 0.4, shape=linear()), 10) == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert values(wsd(2, 4, shape=linear()), 10) == values(wsd(0.2, 0.4, shape=linear()), 10)
    assert wsd(0.2, 0.4)(7, 10) == 1 - math.sqrt(1 / 4)
    assert values(wsd(0.5, 0.5), 1) == [1]


@given(st.floats(0.01, 0.99), runs)
def test_wsd_whose_fractions_fill_the_run_fits_any_run(decay, steps):
    path = values(wsd(1 - decay, decay), steps)
    assert all(0 < factor <= 1 for factor in path)
    assert max(path) == 1


def test_one_cycle_touches_start_peak_and_floor():
    path = values(one_cycle(0.25), 40)
    assert path[0] == pytest.approx(1 / 25, rel=1e-12)
    assert path[9] == max(path) == 1
    assert path[-1] == pytest.approx(4e-6, rel=1e-9)
    assert values(one_cycle(), 1) == [1]
    assert values(one_cycle(1.0), 3)[-1] == 1


def test_cycles_and_restarts_come_back():
    assert values(cyclic(4, floor=0.5), 8) == [0.5, 0.75, 1, 0.75] * 2
    assert values(restarts(2), 5) == pytest.approx([1, 0.5, 1, 0.5, 1])
    for steps in (10, 11, 97, 1000):  # a fraction that fills the run fills it for every length
        assert sum(factor == 1 for factor in values(restarts(0.25), steps)) == 4
    starts = [step for step in range(70) if restarts(1 / 7, growth=2)(step, 70) == 1]
    assert starts == [0, 10, 30]


# PyTorch


def torch_factors(steps, scheduler, **settings):
    """The rates of torch's scheduler on an optimizer of rate 1, each as the step finds it."""
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = SGD([parameter], lr=1.0)
    schedule = scheduler(optimizer, **settings)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < steps else None
    return rates


PAIRS = [
    (lambda steps: linear(floor=0.2), LinearLR, lambda T: {"start_factor": 1.0, "end_factor": 0.2, "total_iters": T}),
    (lambda steps: warmup(), LinearLR, lambda T: {"start_factor": 1 / T, "total_iters": T - 1}),
    (lambda steps: cosine(), CosineAnnealingLR, lambda T: {"T_max": T}),
    (lambda steps: cosine(floor=0.1), CosineAnnealingLR, lambda T: {"T_max": T, "eta_min": 0.1}),
    (lambda steps: polynomial(1.5), PolynomialLR, lambda T: {"total_iters": T, "power": 1.5}),
    (lambda steps: one_cycle(), OneCycleLR, lambda T: {"max_lr": 1.0, "total_steps": T, "cycle_momentum": False}),
    (
        lambda steps: one_cycle(0.55, start=0.1, floor=0.01),
        OneCycleLR,
        lambda T: (
            {"max_lr": 1.0, "total_steps": T, "pct_start": 0.55, "div_factor": 10, "final_div_factor": 10}
            | {"cycle_momentum": False}
        ),
    ),
    (lambda steps: restarts(7), CosineAnnealingWarmRestarts, lambda T: {"T_0": 7}),
    (
        lambda steps: restarts(3, growth=2, floor=0.1),
        CosineAnnealingWarmRestarts,
        lambda T: {"T_0": 3, "T_mult": 2, "eta_min": 0.1},
    ),
    (
        lambda steps: cyclic(8, floor=0.25),
        CyclicLR,
        lambda T: {"base_lr": 0.25, "max_lr": 1.0, "step_size_up": 4, "cycle_momentum": False},
    ),
]


def law_of_torch(schedule, scheduler, settings, steps):
    assert values(schedule, steps) == pytest.approx(torch_factors(steps, scheduler, **settings(steps)), abs=1e-12)


@pytest.mark.parametrize(("make", "scheduler", "settings"), PAIRS, ids=[str(make(9)) for make, *_ in PAIRS])
@pytest.mark.parametrize("steps", [5, 40, 41, 333])
def test_the_same_numbers_as_torch(make, scheduler, settings, steps):
    law_of_torch(make(steps), scheduler, settings, steps)


@pytest.mark.parametrize("breach", [late(), linear(), 1.001 * cosine(), cosine(floor=1e-3)], ids=repr)
def test_the_comparison_with_torch_sees_breaches(breach):
    with pytest.raises(AssertionError):
        law_of_torch(breach, CosineAnnealingLR, lambda steps: {"T_max": steps}, 40)


def test_a_bound_schedule_drives_lambda_lr_and_its_checkpoint_holds_only_numbers():
    schedule = warmup(0.25) * linear()
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = LambdaLR(optimizer, schedule.over(8))
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [0.5 * schedule(min(step, 7), 8) for step in range(10)]
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = LambdaLR(SGD([torch.zeros(1, requires_grad=True)], lr=0.5), schedule.over(8))
    other.load_state_dict(state)
    assert other.last_epoch == 10
    assert other.lr_lambdas[0] == schedule.over(8)


# Composition


@given(any_schedule, any_schedule, any_schedule, runs)
def test_products_multiply_and_associate(a, b, c, steps):
    assert (a * b) * c == a * (b * c) == product(a, b, c)
    expected = [x * y for x, y in zip(values(a, steps), values(b, steps), strict=True)]
    assert values(a * b, steps) == pytest.approx(expected, rel=1e-14)


@given(any_schedule, st.floats(0, 3), runs)
def test_a_number_scales(schedule, number, steps):
    scaled = [number * value for value in values(schedule, steps)]
    assert values(number * schedule, steps) == pytest.approx(scaled, rel=1e-15)
    assert np.float64(number) * schedule == number * schedule
    assert values(schedule * number, steps) == pytest.approx(scaled, rel=1e-15)


@given(any_schedule, any_schedule, st.integers(0, 50), st.integers(1, 50))
def test_a_sequence_is_each_part_in_its_own_time(a, b, first, rest):
    expected = [*(values(a, first) if first else []), *values(b, rest)]
    assert values(sequence((first, a), b), first + rest) == expected


@given(fractions, fractions, runs)
def test_parts_of_a_sequence_meet_without_gap_or_overlap(f, g, steps):
    path = values(sequence((f, constant(1)), (g, constant(2)), constant(3)), steps)
    ends = [round(f * steps), round(f * steps + g * steps)]
    assert path == [1] * ends[0] + [2] * (ends[1] - ends[0]) + [3] * (steps - ends[1])


@given(fractions, st.sampled_from(FALLS), st.integers(20, 300))
def test_joints_are_continuous(rise, fall, steps):
    path = values(sequence((rise, warmup()), fall), steps)
    joint = round(rise * steps)
    assert path[joint] == 1
    assert joint == 0 or path[joint - 1] == 1
    path = values(wsd(rise, 0.3, shape=fall), steps)
    assert max(path) == path[round(0.7 * steps)] == path[round(0.7 * steps) - 1] == 1


@given(any_schedule, runs, st.data())
def test_every_schedule_is_a_finite_rate_of_position_alone(schedule, steps, data):
    step = data.draw(st.integers(0, steps - 1))
    value = schedule(step, steps)
    assert 0 <= value < math.inf
    assert schedule(np.int64(step), np.int64(steps)) == value == schedule.over(steps)(step)
    assert schedule.over(steps)(steps + step) == schedule(steps - 1, steps)


@given(simple, runs)
def test_a_single_shape_stays_between_0_and_1(schedule, steps):
    assert all(0 <= value <= (2 if isinstance(schedule, constant) else 1) for value in values(schedule, steps))


# Values


@given(any_schedule)
def test_repr_is_the_code_and_equality_is_by_value(schedule):
    assert eval(repr(schedule), dict(NAMES)) == schedule == parse(repr(schedule))
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
    bound = schedule.over(7)
    assert pickle.loads(pickle.dumps(bound)) == copy.deepcopy(bound) == eval(repr(bound), dict(NAMES)) == bound
    assert bound != schedule.over(8)


def test_repr_reads_like_the_code():
    assert repr(3e-4 * warmup(0.05) * cosine(floor=0.1)) == "0.0003 * warmup(0.05) * cosine(floor=0.1)"
    assert repr(wsd(decay=0.4, shape=linear())) == "wsd(decay=0.4, shape=linear())"
    assert repr(sequence((100, warmup()), inverse_sqrt(100))) == "sequence((100, warmup()), inverse_sqrt(100))"
    assert repr((linear() * 0.5).over(10)) == "(linear() * constant(0.5)).over(10)"
    assert repr(linear().over(10)) == "linear().over(10)"


def test_equality_tells_apart():
    different = [
        linear(),
        cosine(),
        linear(floor=0.1),
        0.5 * linear(),
        linear() * 0.5,
        warmup(1),
        warmup(),
        warmup(0.1),
    ]
    assert len(set(different)) == len(different)


def test_a_schedule_cannot_be_changed():
    with pytest.raises(AttributeError, match="floor"):
        linear().floor = 0.5  # pyright: ignore[reportAttributeAccessIssue]


def test_one_of_your_own_composes():
    schedule = 0.5 * late() * warmup(2)
    assert values(schedule, 4) == [0.5 * 0.75 * 0.5, 0.5 * 0.5, 0.5 * 0.25, 0]
    assert repr(schedule) == "0.5 * late() * warmup(2)"


def test_every_schedule_can_be_read_from_text():
    assert set(NAMES) == set(schedules.__all__) - {"Schedule", "BoundSchedule", "parse"}


# Bad input: one sentence with what came, what was expected, what to do


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: linear(floor=1.5), ValueError, "linear: floor must be a number from 0 to 1; received 1.5"),
        (lambda: cosine(floor=-0.1), ValueError, "from 0 to 1"),
        (lambda: cosine(floor=math.nan), ValueError, "received nan"),
        (lambda: cosine(floor="0"), TypeError, "received '0'"),
        (lambda: cosine(floor=True), TypeError, "received True"),
        (lambda: warmup(1.0), ValueError, "fraction of the run below 1, such as 0.1, or a whole number of steps"),
        (lambda: warmup(-3), ValueError, "warmup: length must be a fraction"),
        (lambda: inverse_sqrt(0), ValueError, "above 0"),
        (lambda: polynomial(0.0), ValueError, "power must be a finite number above 0"),
        (lambda: one_cycle(start=0.0), ValueError, "start must be a number above 0"),
        (lambda: cyclic(0.1, floor=0.0), ValueError, "floor must be a number above 0"),
        (lambda: restarts(0.1, growth=0.5), ValueError, "growth must be a finite number, 1 or more"),
        (lambda: restarts(None), TypeError, "received None"),
        (lambda: constant(-1), ValueError, "constant: value must be a finite number, 0 or more; received -1"),
        (lambda: constant(math.inf), ValueError, "received inf"),
        (lambda: -1 * linear(), ValueError, "received -1"),
        (lambda: wsd(0.7, 0.7), ValueError, "more than the run"),
        (lambda: sequence((0.1, warmup())), TypeError, "ends with a schedule alone"),
        (lambda: sequence(), TypeError, "received 'nothing'"),
        (lambda: sequence(warmup(0.1), linear()), TypeError, r"pair \(length, schedule\)"),
        (lambda: sequence((1.0, warmup()), linear()), ValueError, "a length must be a fraction of the run below 1"),
        (lambda: sequence((0.6, warmup()), (0.4, constant()), linear()), ValueError, "leaves nothing"),
        (lambda: product(linear(), 3), TypeError, "product takes schedules; received 3"),
        (lambda: linear() * "2", TypeError, "unsupported operand|can't multiply"),
        (lambda: linear()(0, 0), ValueError, "1 step or more; received steps=0"),
        (lambda: linear().over(-5), ValueError, "received steps=-5"),
        (lambda: linear().over(1e4), TypeError, "steps must be a whole number; received 10000.0"),
        (lambda: linear()(10, 10), ValueError, "Step 10 is outside the run: 10 steps are numbered 0 to 9"),
        (lambda: linear().over(10)(-1), ValueError, "Step -1 is outside"),
        (lambda: warmup(100).over(50), ValueError, r"warmup\(100\) does not fit into 50 steps: give it fewer"),
        (lambda: (cosine() * warmup(100)).over(50), ValueError, r"warmup\(100\) does not fit"),
        (lambda: sequence((30, warmup()), (30, constant()), linear()).over(50), ValueError, "does not fit into 50"),
        (lambda: wsd(30, 30).over(50), ValueError, r"wsd\(30, 30\) does not fit into 50 steps"),
        (lambda: wsd(0.1, 60).over(50), ValueError, "does not fit into 50 steps"),
        (lambda: parse("cosin()"), ValueError, r"no schedule 'cosin'; did you mean 'cosine'\?"),
        (lambda: parse("quux()"), ValueError, "there are constant, product, warmup"),
        (lambda: parse("cosine(floor=2)"), ValueError, "received 2"),
        (lambda: parse("cosine(flor=0.1)"), ValueError, "flor"),
        (lambda: parse("cosine("), ValueError, "is no schedule, as"),
        (lambda: parse("3e-4"), ValueError, "'3e-4' is no schedule"),
        (lambda: parse("cosine() + 1"), ValueError, r"'cosine\(\) \+ 1' has no place in a schedule"),
        (lambda: parse("__import__('os').getcwd()"), ValueError, "has no place in a schedule"),
        (lambda: parse("(1, 2) * 1000000000000"), ValueError, "has no place in a schedule"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_step_is_too_late_to_learn_that_the_run_is_too_short():
    assert isinstance(sequence((30, warmup()), linear()).over(31), BoundSchedule)
    with pytest.raises(ValueError, match="does not fit"):
        warmup(100)(49, 50)
