"""What an optimizer is given by mistake: one sentence that says what was received and what was expected."""

import math
import re

import pytest
import torch

from steepest import rule
from steepest.formula import FormulaError
from steepest.optim import CLASSES, Optimizer

AdamW, SGD = CLASSES["AdamW"], CLASSES["SGD"]


def parameter(*shape, dtype=torch.float32):
    return torch.nn.Parameter(torch.ones(shape or (3,), dtype=dtype))


def refused(make, kind, *words):
    """The sentence with which something is refused."""
    with pytest.raises(kind) as caught:
        make()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence, sentence
    return sentence


PARAMETERS = {
    "nothing": (list, ValueError, "was given no parameters"),
    "an exhausted generator": (lambda: iter(()), ValueError, "was given no parameters"),
    "a tensor": (lambda: parameter(), TypeError, "such as model.parameters(), and got Parameter"),
    "a number": (lambda: 3, TypeError, "and got int"),
    "a model": (lambda: torch.nn.Linear(2, 2), TypeError, "and got Linear"),
    "numbers": (lambda: [1.0, 2.0], TypeError, "float"),
    "texts": (lambda: ["weight"], TypeError, "str"),
    "none": (lambda: [None], TypeError, "NoneType"),
    "not a leaf": (lambda: [parameter() * 2], ValueError, "leaf"),
    "one twice": (lambda: [parameter()] * 2, ValueError, "twice"),
    "a group without params": (lambda: [{"lr": 0.1}], (ValueError, TypeError, KeyError), "params"),
    "an empty group": (lambda: [{"params": []}, {"params": [parameter()], "lrr": 1}], TypeError, "did you mean 'lr'?"),
    "a lazy one": (lambda: torch.nn.LazyLinear(3).parameters(), ValueError, "run the model on one batch first"),
    "a set": (lambda: {parameter()}, TypeError, "set"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case):
    make, kind, word = PARAMETERS[case]
    refused(lambda: AdamW(make()), kind, word)


def test_one_in_two_groups():
    p = parameter()
    refused(lambda: AdamW([{"params": [p]}, {"params": [p]}]), ValueError, "more than one parameter group")


VALUES = {
    ("AdamW", "lr", -1.0): (ValueError, "lr=-1.0 must not be negative"),
    ("AdamW", "lr", math.nan): (ValueError, "lr=nan must be a finite number"),
    ("AdamW", "lr", math.inf): (ValueError, "lr=inf must be a finite number"),
    ("AdamW", "lr", "0.1"): (TypeError, "lr='0.1' must be a number, and got str"),
    ("AdamW", "lr", None): (TypeError, "lr=None must be a number"),
    ("AdamW", "lr", True): (TypeError, "lr=True must be a number"),
    ("AdamW", "lr", torch.ones(2)): (TypeError, "must be a number, and got Tensor"),
    ("AdamW", "eps", -1e-8): (ValueError, "eps=-1e-08 must not be negative"),
    ("AdamW", "weight_decay", -0.1): (ValueError, "weight_decay=-0.1 must not be negative"),
    ("AdamW", "betas", (0.9, 1.0)): (ValueError, "a running mean needs 0 <= beta < 1"),
    ("AdamW", "betas", (-0.1, 0.9)): (ValueError, "a running mean needs 0 <= beta < 1"),
    ("AdamW", "betas", (math.nan, 0.9)): (ValueError, "must be a finite number"),
    ("AdamW", "betas", 0.9): (TypeError, "betas=0.9 must be 2 numbers, such as betas=(0.9, 0.999)"),
    ("AdamW", "betas", (0.9,)): (TypeError, "must be 2 numbers"),
    ("AdamW", "betas", (0.9, 0.99, 0.999)): (TypeError, "must be 2 numbers"),
    ("AdamW", "betas", ("a", 0.9)): (TypeError, "must be a number, and got str"),
    ("AdamW", "amsgrad", 1): (TypeError, "amsgrad=1 must be True or False"),
    ("AdamW", "clip", 0): (ValueError, "clip=0 must be a positive bound"),
    ("AdamW", "clip", -1.0): (ValueError, "clip=-1.0 must be a positive bound"),
    ("AdamW", "clip", math.nan): (ValueError, "clip=nan must be a positive bound"),
    ("AdamW", "clip", True): (ValueError, "clip=True must be a positive bound"),
    ("AdamW", "clip", "1"): (ValueError, "clip='1' must be a positive bound"),
    ("AdamW", "ema", 1.0): (ValueError, "ema=1.0 must be a decay between 0 and 1"),
    ("AdamW", "ema", 0): (ValueError, "ema=0 must be a decay between 0 and 1"),
    ("AdamW", "ema", math.nan): (ValueError, "ema=nan must be a decay between 0 and 1"),
    ("AdamW", "skip_nonfinite", 1): (TypeError, "skip_nonfinite=1 must be True or False"),
    ("AdamW", "maximize", None): (TypeError, "maximize=None must be True or False"),
    ("AdamW", "cautious", "yes"): (TypeError, "cautious='yes' must be True or False"),
    ("AdamW", "rounding", "up"): (ValueError, "write one of 'nearest', 'stochastic', 'kahan'"),
    ("AdamW", "rounding", None): (ValueError, "rounding=None is not known"),
    ("AdamW", "state_dtype", torch.int8): (TypeError, "state_dtype=torch.int8 must be a floating torch.dtype"),
    ("AdamW", "state_dtype", "bfloat16"): (TypeError, "must be a floating torch.dtype such as torch.bfloat16"),
    ("SGD", "momentum", -0.9): (ValueError, "momentum=-0.9 must not be negative"),
    ("SGD", "nesterov", True): (ValueError, "nesterov=True needs momentum above 0"),
    ("ScheduleFreeSGD", "momentum", 0): (ValueError, "needs momentum between 0 and 1"),
    ("Adadelta", "rho", -1): (ValueError, "rho=-1"),
    ("Adadelta", "rho", 2.0): (ValueError, "rho=2.0"),
    ("Adafactor", "beta2_decay", 1.0): (ValueError, "beta2_decay=1.0"),
    ("Adafactor", "eps", (-1, 1e-3)): (ValueError, "eps"),
    ("Adafactor", "eps", (math.nan, 1e-3)): (ValueError, "eps"),
    ("Adafactor", "d", -1): (ValueError, "d=-1"),
    ("Adagrad", "lr_decay", -1e-3): (ValueError, "lr_decay=-0.001"),
    ("Adagrad", "initial_accumulator_value", -1): (ValueError, "initial_accumulator_value=-1"),
    ("NAdam", "momentum_decay", -1): (ValueError, "momentum_decay=-1"),
    ("RMSprop", "alpha", -1): (ValueError, "alpha=-1"),
    ("Rprop", "etas", (2.0, 1.2)): (ValueError, "etas"),
    ("Rprop", "step_sizes", (1e-6,)): (TypeError, "step_sizes=(1e-06,) must be 2 numbers"),
    ("Muon", "ns_steps", 2.0): (TypeError, "ns_steps=2.0"),
    ("Muon", "adjust_lr_fn", "none"): (ValueError, "adjust_lr_fn is 'none'"),
}


@pytest.mark.parametrize("case", VALUES, ids=str)
def test_values(case):
    name, option, value = case
    kind, words = VALUES[case]
    refused(lambda: CLASSES[name]([parameter(4, 3)], **{option: value}), kind, words)


NAMES = {
    ("AdamW", "weight_decy"): "did you mean 'weight_decay'?",
    ("AdamW", "beta"): "did you mean 'betas'?",
    ("AdamW", "beta1"): "did you mean 'betas'?",
    ("AdamW", "learning_rate"): "did you mean 'lr'?",
    ("AdamW", "wd"): "did you mean 'weight_decay'?",
    ("AdamW", "max_grad_norm"): "did you mean 'clip'?",
    ("AdamW", "ema_decay"): "did you mean 'ema'?",
    ("AdamW", "skip_non_finite"): "did you mean 'skip_nonfinite'?",
    ("SGD", "nestrov"): "did you mean 'nesterov'?",
    ("SGD", "zzz"): "there are lr, momentum, dampening, weight_decay, nesterov",
    ("Lion", "momentum"): "did you mean 'betas'?",
}


@pytest.mark.parametrize("case", NAMES, ids=str)
def test_names(case):
    name, option = case
    sentence = refused(lambda: CLASSES[name]([parameter()], **{option: 0.1}), TypeError, NAMES[case])
    assert sentence.startswith(f"{name} has no argument {option!r}; ")


@pytest.mark.parametrize("option", ["clip", "ema", "skip_nonfinite"])
def test_options_of_the_whole_are_not_for_a_group(option):
    refused(lambda: AdamW([{"params": [parameter()], option: 0.5}]), TypeError, f"has no argument {option!r}")


def test_too_many_in_order_and_one_twice():
    refused(
        lambda: SGD([parameter()], 0.1, 0.9, 0, 0, False, 7), TypeError, "at most 5 hyper-parameters in order, got 6"
    )
    refused(lambda: SGD([parameter()], 0.1, lr=0.2), TypeError, "SGD got lr twice")


@pytest.mark.parametrize(
    ("group", "kind", "word"),
    [
        ({"lr": math.nan}, ValueError, "lr=nan"),
        ({"lr": "x"}, TypeError, "lr='x'"),
        ({"lrr": 0.1}, TypeError, "did you mean 'lr'?"),
        ({"betas": (0.9, 2)}, ValueError, "beta"),
        ({"rule": "adamwx"}, ValueError, "no rule 'adamwx'; did you mean 'adamw'?"),
        ({"rule": 3}, TypeError, "must be a rule or the name of one"),
        ({"rule": "lion", "amsgrad": True}, TypeError, "a group of lion has no argument 'amsgrad'"),
        ({"blocks": 2}, ValueError, "blocks of equal rows"),
        ({"blocks": 0}, ValueError, "blocks=0"),
        ({"rounding": "odd"}, ValueError, "rounding='odd'"),
    ],
    ids=str,
)
def test_a_refused_group_leaves_the_optimizer_as_it_was(group, kind, word):
    first, second = parameter(), parameter(3, 3)
    optimizer = AdamW([first], lr=0.1)
    refused(lambda: optimizer.add_param_group({"params": [second], **group}), kind, word)
    assert len(optimizer.param_groups) == 1
    first.grad, second.grad = torch.ones(3), torch.ones(3, 3)
    optimizer.step()
    assert (second == 1).all()
    assert (first < 1).all()
    optimizer.add_param_group({"params": [second]})  # the refused parameter is not taken for a member
    optimizer.step()
    assert (second < 1).all()


def test_a_rule_that_cannot_be_traced_is_refused_before_the_first_step():
    @rule
    def wrong(p, g, *, lr=0.1):
        return p - lr * max(g, p)

    sentence = refused(lambda: Optimizer([parameter()], wrong), FormulaError, "rule wrong", "maximum(a, b)")
    assert re.search(r"test_arguments.py:\d+, `return p - lr \* max\(g, p\)`", sentence)


@pytest.mark.parametrize(
    ("signature", "word"),
    [(f"p, g, {word}, *, lr=0.1", word) for word in ("step", "seed", "size", "ema", "unchanged")]
    + [(f"p, g, *, lr=0.1, {word}=0.5", word) for word in ("clip", "params", "maximize", "fused", "ema", "initial_lr")]
    + [("p, g, *, lr=0.1, beta1=0.9, beta2=0.9, betas=0.5", "betas")],
)
def test_a_rule_with_a_word_that_means_something_else_is_refused(signature, word):
    names = {"rule": rule}
    exec(f"@rule\ndef mine({signature}):\n    return p - lr * g", names)
    refused(lambda: Optimizer([parameter()], names["mine"]), FormulaError, "rule mine: the ", f" {word} needs another")


def test_a_rule_that_looks_at_matrices_says_so():
    @rule
    def looks(p, g, *, lr=0.1):
        return p - lr * (g @ g.T @ g)

    refused(lambda: Optimizer([parameter(3, 3)], looks), FormulaError, "@rule(matrix=True)")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("lr", None, "lr=None must be a number"), ("betas", (1.0, 0.9), "0 <= beta < 1"), ("betas", (0.9,), "2 numbers")],
)
def test_nonsense_written_into_a_group_is_named_by_the_step(name, value, words):
    p = parameter()
    p.grad = torch.ones(3)
    optimizer = AdamW([p])
    optimizer.param_groups[0][name] = value
    refused(optimizer.step, (TypeError, ValueError), words)


def test_whole_numbers_cannot_be_stepped():
    p = torch.arange(3)
    p.grad = torch.arange(3)
    refused(AdamW([p]).step, TypeError, "torch.int64", "floating-point")


def test_two_rules_of_one_name_are_refused():
    def made(sign):
        @rule
        def same(p, g, *, lr=0.1):
            return p - sign * lr * g

        return same

    groups = [{"params": [parameter()], "rule": made(sign)} for sign in (1, -1)]
    refused(lambda: SGD(groups), ValueError, "same")


def test_an_unknown_optimizer_is_named():
    import steepest

    with pytest.raises(AttributeError, match="there is no optimizer 'AdamV'"):
        _ = steepest.optim.AdamV
