"""Where torch has the rule, changing the import is all it takes: arguments, numbers, schedulers, scaler."""

import inspect
from contextlib import contextmanager

import pytest
import torch
from by_hand import gap, give, problem, tensors
from torch.optim import lr_scheduler as schedulers
from torch.optim.swa_utils import SWALR

from steepest.optim import CLASSES

SHARED = [name for name in CLASSES if hasattr(torch.optim, name)]
EXACT = [name for name in SHARED if name != "Muon"]  # torch's Muon iterates in bfloat16
IMPLEMENTATIONS = {"foreach", "fused", "capturable", "differentiable"}
SETTINGS = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adam": [{}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
    "AdamW": [{}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}],
    "Adamax": [{}, {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}],
    "NAdam": [{}, {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}],
    "Adagrad": [{}, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}],
    "Adadelta": [{}, {"lr": 0.1, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1}],
    "RMSprop": [{}, {"lr": 0.1, "alpha": 0.5, "centered": True, "momentum": 0.9, "weight_decay": 0.1}],
    "Rprop": [{}, {"lr": 0.1, "etas": (0.4, 1.5), "step_sizes": (1e-3, 0.2)}],
    "ASGD": [{}, {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 5, "weight_decay": 0.1}],
    "Adafactor": [{}, {"lr": 0.1, "beta2_decay": -0.5, "eps": (1e-3, 0.1), "d": 2.0, "weight_decay": 0.1}],
}
CASES = [(name, options) for name in EXACT for options in SETTINGS[name]]


@contextmanager
def in_double():
    """Let torch keep its own scalars in double: NAdam's and ASGD's follow the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def both(name, starts, **options):
    """Our optimizer and torch's, on parameters of their own."""
    with in_double():
        return CLASSES[name](tensors(starts), **options), getattr(torch.optim, name)(tensors(starts), **options)


def step_both(ours, theirs, gradients):
    """One step of each; how far they are apart."""
    ends = [optimizer.param_groups[0]["params"] for optimizer in (ours, theirs)]
    with in_double():
        for optimizer, parameters in zip((ours, theirs), ends, strict=True):
            give(parameters, gradients)
            optimizer.step()
    return gap(ends[0], [p.detach() for p in ends[1]])


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_fifty_steps_in_double(name, options):
    starts, gradients = problem(shapes=[(7,), (4, 3), (16, 16), ()], steps=50)
    ours, theirs = both(name, starts, **options)
    assert max(step_both(ours, theirs, step) for step in gradients) <= 1e-10


def test_every_rule_that_torch_has_is_compared():
    known = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    left = known - set(SHARED) - {"Optimizer", "LBFGS", "SparseAdam"}
    assert left == set()
    assert set(SETTINGS) == set(EXACT)


@pytest.mark.parametrize("name", SHARED)
def test_arguments_have_torchs_names_order_and_defaults(name):
    def arguments(kind):
        parameters = inspect.signature(kind.__init__).parameters.values()
        positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("self", "params")]
        return {p.name: p.default for p in positional if p.name not in IMPLEMENTATIONS | {"maximize"}}

    theirs = arguments(getattr(torch.optim, name))
    ours = arguments(CLASSES[name])
    assert list(ours) == list(theirs)
    assert ours == theirs


@pytest.mark.parametrize("name", EXACT)
def test_hyper_parameters_in_order(name):
    starts, gradients = problem(steps=3)
    options = {key: value for key, value in SETTINGS[name][1].items() if key != "maximize"}
    names = list(inspect.signature(CLASSES[name].__init__).parameters)[2:]
    given = [
        options.get(key, CLASSES[name].rule.options.get(key)) for key in names[: names.index(list(options)[-1]) + 1]
    ]
    given = [
        (0.9, 0.999) if key == "betas" and value is None else value for key, value in zip(names, given, strict=False)
    ]
    with in_double():
        ours, theirs = CLASSES[name](tensors(starts), *given), getattr(torch.optim, name)(tensors(starts), *given)
    assert max(step_both(ours, theirs, step) for step in gradients) <= 1e-10


@pytest.mark.parametrize("path", sorted(IMPLEMENTATIONS))
@pytest.mark.parametrize("value", [None, False, True])
def test_torchs_choice_of_path_is_taken_and_means_nothing(path, value):
    make = lambda: CLASSES["AdamW"]([torch.nn.Parameter(torch.ones(3))], **{path: value})  # noqa: E731
    if path == "differentiable" and value:
        with pytest.raises(ValueError, match="differentiable=True is not offered"):
            make()
    else:
        assert path not in make().param_groups[0]


SCHEDULERS = {
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda epoch: 0.95**epoch),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda epoch: 0.95),
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 4),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, total_iters=6),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 8),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 5),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=12),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=1),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=3), schedulers.CosineAnnealingLR(o, 5)], [3]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: SWALR(o, 0.01, anneal_epochs=3),
}


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_gives_torchs_numbers(name, scheduler):
    starts, gradients = problem(steps=10)
    options = {"momentum": 0.9} if name == "SGD" else {}
    ours, theirs = both(name, starts, lr=0.05, **options)
    pair = [SCHEDULERS[scheduler](optimizer) for optimizer in (ours, theirs)]
    seen = set()
    for step in gradients:
        assert step_both(ours, theirs, step) < 1e-12
        for each in pair:
            each.step(*((1.0,) if scheduler == "ReduceLROnPlateau" else ()))
        rates = [optimizer.param_groups[0]["lr"] for optimizer in (ours, theirs)]
        assert rates[0] == rates[1]
        seen.add(rates[0])
    assert len(seen) > 1


def test_every_scheduler_is_tried():
    kinds = {name for name, kind in vars(schedulers).items() if isinstance(kind, type) and name.endswith("LR")}
    kinds |= {"ReduceLROnPlateau", "CosineAnnealingWarmRestarts", "SequentialLR", "ChainedScheduler"}
    assert {kind for kind in kinds if not kind.startswith("_")} <= set(SCHEDULERS)


def test_a_scheduler_resumes():
    starts, gradients = problem(steps=8)
    ours = CLASSES["AdamW"](tensors(starts), lr=0.05)
    scheduler = schedulers.CosineAnnealingLR(ours, 8)
    for step in gradients[:4]:
        give(ours.param_groups[0]["params"], step)
        ours.step()
        scheduler.step()
    other = CLASSES["AdamW"]([torch.nn.Parameter(p.detach().clone()) for p in ours.param_groups[0]["params"]], lr=0.05)
    again = schedulers.CosineAnnealingLR(other, 8)
    other.load_state_dict(ours.state_dict())
    again.load_state_dict(scheduler.state_dict())
    for step in gradients[4:]:
        for optimizer, each in ((ours, scheduler), (other, again)):
            give(optimizer.param_groups[0]["params"], step)
            optimizer.step()
            each.step()
    assert gap(ours.param_groups[0]["params"], [p.detach() for p in other.param_groups[0]["params"]]) == 0


def scaled_walk(make):
    """A run under a GradScaler of which two steps overflow: its end, and the scales."""
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    optimizer = make(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    scales = []
    for k in range(10):
        optimizer.zero_grad()
        scaler.scale(model(torch.randn(8, 4)).pow(2).mean()).backward()
        if k in (2, 5):
            model.weight.grad[0, 0] = torch.inf
        if k > 6:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return model, optimizer, scales


def test_grad_scaler_skips_as_with_torch():
    ours, optimizer, scales = scaled_walk(lambda parameters: CLASSES["AdamW"](parameters, lr=0.1))
    theirs, _, expected = scaled_walk(lambda parameters: torch.optim.AdamW(parameters, lr=0.1))
    assert scales == expected
    assert min(scales) < 2.0**10
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert optimizer.stats.steps == 8


def test_a_compiled_model_trains_as_any_other():
    def end(compiled):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        optimizer = CLASSES["AdamW"](model.parameters(), lr=0.05, clip=1.0)
        run = torch.compile(model, backend="aot_eager") if compiled else model
        for _ in range(5):
            optimizer.zero_grad()
            run(torch.ones(3, 4)).pow(2).mean().backward()
            optimizer.step()
        return [p.detach() for p in model.parameters()]

    for a, b in zip(end(True), end(False), strict=True):
        torch.testing.assert_close(a, b)


def test_a_rate_may_be_a_tensor():
    starts, gradients = problem(steps=4)
    ours, numbered = (
        CLASSES["AdamW"](tensors(starts), lr=torch.tensor(0.05)),
        CLASSES["AdamW"](tensors(starts), lr=0.05),
    )
    assert isinstance(ours.param_groups[0]["lr"], torch.Tensor)
    pair = [schedulers.ExponentialLR(optimizer, 0.5) for optimizer in (ours, numbered)]
    for step in gradients:
        for optimizer, scheduler in zip((ours, numbered), pair, strict=True):
            give(optimizer.param_groups[0]["params"], step)
            optimizer.step()
            scheduler.step()
    assert gap(ours.param_groups[0]["params"], [p.detach() for p in numbered.param_groups[0]["params"]]) < 1e-7
