"""The printed Triton kernels give the numbers of the CPU kernels and formulas, and compile to exact instructions."""

import re

import interpreted
import pytest
import torch
from interpreted import close, has_sums, program, same_bits, train

from steepest.kernels.gpu import columns
from steepest.kernels.ptx import breaches, compile_for
from steepest.kernels.triton_text import source
from steepest.rules import RULES

WIDE = re.compile(r"ld\.global\.v\d")


@pytest.fixture(scope="module")
def interpreter():
    process = interpreted.Interpreter()
    yield process
    process.close()


FEW = ((0,), (17,), (1500,))  # whole blocks and parts of one
ELEMENTWISE = [name for name in RULES if not RULES[name].matrix and not has_sums(name)]


# Values: interpreted, beside the CPU kernel and the formula in NumPy.


@pytest.mark.parametrize("name", RULES)
def test_the_numbers_are_those_of_the_cpu_kernel(interpreter, name):
    law = close if has_sums(name) else same_bits
    law(interpreter(train, name), train(name))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_the_numbers_are_those_of_the_formula(interpreter, name):
    shapes = ((33,), (1000,))
    got = interpreter(train, name, shapes=shapes)
    first, gradients = interpreted.start(False, shapes, 3)
    for k, p in enumerate(first):
        *_, expected = RULES[name].walk(p.float().numpy(), [step[k].numpy() for step in gradients])
        same_bits({"p": got[f"p[{k}]"]}, {"p": torch.from_numpy(expected)})


@pytest.mark.parametrize("name", [name for name in RULES if not RULES[name].matrix])
def test_special_values_are_kept(interpreter, name):
    same_bits(interpreter(train, name, special=True, steps=2), train(name, special=True, steps=2))


@pytest.mark.parametrize("name", ["logical", "summing", "guarded", "largest_only"])
@pytest.mark.parametrize("special", [False, True], ids=["normal", "special"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_operations_that_no_rule_has(interpreter, name, special, dtype):
    law = close if name == "summing" else same_bits
    keywords = {"special": special, "dtype": dtype, "shapes": FEW}
    law(interpreter(train, name, **keywords), train(name, **keywords))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_exp_and_log_are_as_good_as_they_get(interpreter, dtype):
    keywords = {"dtype": dtype, "steps": 1}
    got, expected = interpreter(train, "transcendental", **keywords), train("transcendental", **keywords)
    close(got, expected, within=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_addresses_that_are_not_aligned(interpreter, name, dtype):
    law, keywords = close if has_sums(name) else same_bits, {"dtype": dtype, "shifted": True, "shapes": FEW}
    law(interpreter(train, name, **keywords), train(name, **keywords))


LOW = {"dtype": torch.bfloat16}
OPTIONS = [
    ("adamw", LOW), ("adamw", LOW | {"rounding": "stochastic"}), ("adamw", LOW | {"rounding": "kahan"}),
    ("adamw", LOW | {"state_dtype": torch.bfloat16}), ("adamw", {"dtype": torch.float16, "rounding": "kahan"}),
    ("adamw", {"dtype": torch.float64}), ("adamw", {"dtype": torch.float64, "state_dtype": torch.bfloat16}),
    ("adamw", {"dtype": torch.float64, "state_dtype": torch.float16}), ("adamw", {"dtype": torch.complex64}),
    ("lion", {"maximize": True}), ("lion", {"ema": 0.9}), ("muon", {"blocks": 2, "shapes": ((4, 5), (8, 6), (8, 6))}),
    ("sgd", LOW | {"rounding": "stochastic", "special": True}), ("sgd", LOW | {"special": True}),
]  # fmt: skip
WITH_SUMS = [
    ("adamw", {"clip": 1.0}), ("lamb", {"clip": 0.1}), ("prodigy", {"clip": 0.1}), ("lion", {"cautious": True}),
    ("adamw", {"clip": 1.0, "skip_nonfinite": True, "ema": 0.9, "cautious": True, "maximize": True}),
    ("adamw", LOW | {"measure": True, "rounding": "kahan", "clip": 1.0}), ("lamb", {"dtype": torch.complex128}),
    ("adamw", {"skip_nonfinite": True, "special": True}), ("normuon", {"blocks": 2, "shapes": ((4, 5), (8, 6))}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_options_change_nothing_about_it(interpreter, name, options):
    options = {"shapes": FEW} | options
    same_bits(interpreter(train, name, **options), train(name, **options))


@pytest.mark.parametrize(("name", "options"), WITH_SUMS, ids=str)
def test_options_with_sums_change_nothing_about_it(interpreter, name, options):
    options = {"shapes": FEW} | options
    close(interpreter(train, name, **options), train(name, **options))


DTYPES = (torch.float64, torch.bfloat16, torch.complex64)
TYPED = [(n, dtype) for n in RULES for dtype in DTYPES if not (RULES[n].matrix and dtype.is_complex)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), TYPED, ids=str)
@pytest.mark.parametrize("shifted", [False, True], ids=["aligned", "shifted"])
def test_every_rule_in_every_dtype(interpreter, name, dtype, shifted):
    keywords = {"dtype": dtype, "shifted": shifted, "steps": 5, "ema": 0.9}
    law = close if has_sums(name) else same_bits
    law(interpreter(train, name, **keywords), train(name, **keywords))


BREACHES = {
    "another formula": ("sgd", (r"(x\d+) - (x\d+)", r"\2 - \1"), {}),
    "another order": ("adam", (r"(x\d+) = (x\d+) \* (x\d+)\n(.*) = \1 \* \3\n", r"\1 = \3 * \3\n\4 = \1 * \2\n"), {}),
    "a division rounded twice": ("adamw", (r"tl.div_rn\((x\d+), (x\d+)\)", r"\1 * tl.div_rn(1.0, \2)"), {}),
    "a scalar in double": ("sgd", (r"(constants \+ \d+\)).to\(tl.float32\)", r"\1"), {}),
    "a maximum without NaN": ("adopt", (r"(x\d+ > x\d+)\) \| \(x\d+ != x\d+", r"\1"), {"special": True}),
    "a sign without NaN": ("lion", (r"tl.where\(x\d+ == 0, 0.0, x\d+\)", "0.0"), {"special": True}),
    "a largest without NaN": (
        "largest_only", (r"tl.abs\((x\d+)\.to", r"(tl.where(\1 < 9, \1, 9).to"), {"special": True},
    ),
    "another noise": ("sgd", ("0x21F0AAAD", "0x21F0AAAB"), LOW | {"rounding": "stochastic"}),
    "the same noise everywhere": ("sgd", ("at.to", "lanes.to"), LOW | {"rounding": "stochastic"}),
    "a write outside": ("sgd", ("at < length", "at < length + 1"), {}),
    "a forgotten end": ("sgd", ("at < length", "at < length - 1"), {}),
    "a forgotten row": ("sgd", (r"\+ start \* 4", ""), {}),
}  # fmt: skip


@pytest.mark.parametrize("breach", BREACHES)
def test_the_laws_catch(interpreter, breach):
    name, change, keywords = BREACHES[breach]
    got, expected = interpreter(train, name, breach=change, **keywords), train(name, **keywords)
    with pytest.raises(AssertionError):
        same_bits(got, expected)


# Instructions: compiled for real GPUs. The interpreter divides as NumPy does, whatever the compiler would make of it.


def texts(name, dtype="float32", state="float32", **edits):
    """Return the text of every kernel of a rule."""
    steps = program(name, low=dtype in ("bfloat16", "float16"), **edits)
    places = columns(steps)
    dtypes = dict.fromkeys(places, "float64" if dtype == "float64" else "float32") | dict.fromkeys(steps.states, state)
    dtypes |= {"p": dtype, "g": dtype}
    passes = [stage for stage in steps.stages if stage.stores or stage.kept or stage.reductions]
    return [source(steps, stage, places, dtypes) for stage in passes]


def law_exact(text, capability=90, **options):
    for name, made in compile_for(text, capability, **options).items():
        assert breaches(made["ptx"]) == []
        assert name == "totals" or WIDE.search(made["ptx"])


@pytest.mark.parametrize("name", RULES)
def test_compiled_kernels_round_as_the_formula(name):
    for text in texts(name):
        law_exact(text)


@pytest.mark.parametrize(
    "keywords",
    [
        {"dtype": "bfloat16", "rounding": "stochastic"}, {"dtype": "float16", "rounding": "kahan", "measure": True},
        {"dtype": "float64", "state": "bfloat16"}, {"clip": 1.0, "cautious": True, "ema": 0.9, "maximize": True},
    ],
    ids=str,
)  # fmt: skip
def test_compiled_options_round_as_the_formula(keywords):
    for text in texts("adamw", **keywords):
        law_exact(text)


@pytest.mark.parametrize("name", ["logical", "summing", "transcendental", "guarded"])
def test_compiled_operations_that_no_rule_has(name):
    for text in texts(name):
        law_exact(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("capability", [80, 90])
def test_every_rule_compiles_for_every_dtype(name, dtype, capability):
    for text in texts(name, dtype, state="float64" if dtype == "float64" else "float32"):
        law_exact(text, capability)


@pytest.mark.parametrize(
    ("old", "new", "caught"),
    [
        (r"tl\.div_rn\((\w+), (\w+)\)", r"\1 / \2", "div.full"),
        (r"tl\.div_rn\((\w+), (\w+)\)", r"tl.math.fdiv(\1, \2)", "div."),
        (r"tl\.sqrt_rn", "tl.sqrt", "sqrt.approx"),
        (r"tl\.sqrt_rn\((\w+)\)", r"(1.0 * tl.rsqrt(\1))", "rsqrt.approx"),
        (r"tl\.sqrt_rn", "tl.exp", "ex2.approx"),
    ],
)
def test_the_law_catches_approximations(old, new, caught):
    (text,) = texts("adamw")
    changed, count = re.subn(old, new, text)
    assert count
    found = breaches(compile_for(changed)["stage"]["ptx"])
    assert any(instruction.startswith(caught) for instruction in found)


def test_the_law_catches_fused_multiply_adds():
    with pytest.raises(AssertionError, match=r"fma\.rn\.f32"):
        law_exact(*texts("adamw"), enable_fp_fusion=True)


def test_the_law_catches_flushed_denormals():
    with pytest.raises(AssertionError, match=r"ftz\.f32"):
        law_exact(*texts("transcendental"), enable_reflect_ftz=True)


def test_the_law_catches_narrow_loads():
    (text,) = texts("adamw")
    with pytest.raises(AssertionError, match="totals"):
        law_exact(re.sub(r"tl\.multiple_of\((.*), 16\)", r"\1", text))


def test_machine_code_has_no_fused_multiply_add():
    (text,) = texts("lion")  # without a division or a root: those are made of fused multiply-adds themselves
    exact, fused = compile_for(text)["stage"]["sass"], compile_for(text, enable_fp_fusion=True)["stage"]["sass"]
    assert "FFMA" not in exact
    assert "LDG.E.128" in exact
    assert "FFMA" in fused
